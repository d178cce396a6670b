"""Finding one's way in the environment's records by key path: which keys a table has, which of them hold secret references, what each is for.

A path is a tuple as pydantic's errors give it: `("databases", "app", "digest_rules", 0, "mode")`; people read `databases.app.digest_rules[0].mode`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from core.environment import Environment
from core.secret_reference import SecretReference

Path = tuple[str | int, ...]
_SECRET_MARK = SecretReference.__metadata__[0]  # type: ignore[attr-defined]  # Annotated's own attribute
# `name` is the file's name; it is no key of the file.
NOT_IN_THE_FILE = frozenset({"name"})


@dataclass(frozen=True)
class Place:
    """What stands at a path: its type without `| None`, and the field that leads there (None for the whole file)."""

    annotation: Any
    field: FieldInfo | None

    @property
    def model(self) -> type[BaseModel] | None:
        """The record at this place, when it is a table of fixed keys."""
        return self.annotation if isinstance(self.annotation, type) and issubclass(self.annotation, BaseModel) else None

    @property
    def is_composite(self) -> bool:
        """Whether this is a table or a list rather than one value."""
        return self.model is not None or get_origin(self.annotation) in {dict, tuple}

    @property
    def is_secret(self) -> bool:
        """Whether this holds a secret reference, or a list of them."""
        metadata = self.field.metadata if self.field else ()
        return _SECRET_MARK in metadata or _marks_secret(self.annotation)


def place_at(path: Path) -> Place | None:
    """Given a key path, return what stands there, or None when there is no such key."""
    place = Place(Environment, None)
    for step in path:
        following = _step(place, step)
        if following is None:
            return None
        place = following
    return place


def keys_at(path: Path) -> tuple[str, ...]:
    """Given the path of a table, return the keys that it may have; empty when they are free (databases) or there is no such table."""
    place = place_at(path)
    if place is None or place.model is None:
        return ()
    hidden = NOT_IN_THE_FILE if place.model is Environment else frozenset()
    return tuple(name for name in place.model.model_fields if name not in hidden)


def dotted(path: Sequence[str | int]) -> str:
    """Given a key path, return it as people read it: `databases.app.digest_rules[0].mode`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}"
    return text.removeprefix(".")


def plain_type(annotation: Any) -> Any:
    """Given a type, return it without `| None` and without Annotated's marks."""
    if get_origin(annotation) in {Union, UnionType}:
        return plain_type(next(member for member in get_args(annotation) if member is not type(None)))
    return plain_type(annotation.__origin__) if hasattr(annotation, "__metadata__") else annotation


def _step(place: Place, step: str | int) -> Place | None:
    if place.model is not None:
        field = place.model.model_fields.get(str(step))
        # The field keeps its marks; only `| None` and Annotated go, so that a table inside is found.
        return None if field is None else Place(_peeled(field.annotation), field)
    arguments = get_args(place.annotation)
    if get_origin(place.annotation) is dict:
        return Place(_peeled(arguments[1]), place.field)
    if get_origin(place.annotation) is tuple and isinstance(step, int):
        return Place(_peeled(arguments[0]), place.field)
    return None


def _peeled(annotation: Any) -> Any:
    plain = plain_type(annotation)
    # Marks matter only where they say "secret"; there the marked type is kept.
    return annotation if plain is str and _marks_secret(annotation) else plain


def _marks_secret(annotation: Any) -> bool:
    return _SECRET_MARK in getattr(annotation, "__metadata__", ()) or any(
        _marks_secret(argument) for argument in get_args(annotation)
    )
