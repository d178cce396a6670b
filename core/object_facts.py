"""What is said of each dumped object, collected by kind and schema so that two databases can be compared on any major, and what differs be named."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from core.manifest import Alike, ObjectGroup

# Raise it when the same database would be told otherwise than before: facts of different forms are not compared.
FORM = 1
# So many objects of one kind in one schema are listed; of more only their number and hash are kept.
LISTED_AT_MOST = 2000
# The kinds of what belongs to extensions or the system: their privileges are told by what was changed.
CHANGED_KIND = "changed privileges of"
_LONGEST_STATEMENT = 200
_HASH_DIGITS = 16

About = Literal["owner and privileges", "state", "comments", "details"]
Said = dict[str, tuple[str, ...]]


class GroupKey(NamedTuple):
    """What a group is about."""

    about: About
    kind: str
    schema_name: str


class ObjectsSaid:
    """Collects statements, by object. Names are compared without the quotes that a new keyword brings along."""

    def __init__(self) -> None:
        self._said: dict[GroupKey, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))

    def say(self, key: GroupKey, name: str, *statements: str) -> None:
        """Note what is said of an object; without a statement, that it is there."""
        self._said[key][plain_name(name)].update(_short(statement) for statement in statements)

    @property
    def said(self) -> dict[GroupKey, Said]:
        """What was collected, by group and name."""
        return {
            key: {name: tuple(sorted(statements)) for name, statements in objects.items()}
            for key, objects in self._said.items()
        }


def plain_name(name: str) -> str:
    """Given a name as SQL writes it, return it without quotes: whether one needs them depends on the keywords of the major."""
    return name.replace('"', "")


def _short(statement: str) -> str:
    if len(statement) <= _LONGEST_STATEMENT:
        return statement
    digest = hashlib.sha256(statement.encode()).hexdigest()[:_HASH_DIGITS]
    return f"{statement[: _LONGEST_STATEMENT - _HASH_DIGITS - 2]}… {digest}"


def collect_groups(said: Mapping[GroupKey, Said], *, listed_at_most: int = LISTED_AT_MOST) -> tuple[ObjectGroup, ...]:
    """Given what is said of objects, return the manifest's groups, sorted; those with more objects than `listed_at_most` without the list."""
    return tuple(
        ObjectGroup(
            about=key.about,
            kind=key.kind,
            schema_name=key.schema_name,
            count=len(objects),
            sha256=group_sha256(objects),
            alike=_alike(objects) if len(objects) <= listed_at_most else None,
        )
        for key, objects in sorted(said.items())
    )


def group_sha256(objects: Said) -> str:
    """Given what is said of a group's objects, return its SHA-256, whatever the order."""
    lines = (json.dumps([name, *sorted(objects[name])], ensure_ascii=False) for name in sorted(objects))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _alike(objects: Said) -> tuple[Alike, ...]:
    names: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, statements in objects.items():
        names[statements].append(name)
    return tuple(Alike(statements=statements, names=tuple(sorted(names[statements]))) for statements in sorted(names))


def listed(groups: Iterable[ObjectGroup]) -> dict[GroupKey, Said | None]:
    """Given a manifest's groups, return what is said of each object, None for a group that is not listed."""
    return {
        GroupKey(group.about, group.kind, group.schema_name): None
        if group.alike is None
        else {name: one.statements for one in group.alike for name in one.names}
        for group in groups
    }
