"""A secret's reference: where it is, never what it is. Resolving one is tasks.secrets' business."""

import re
from typing import Annotated

from pydantic import AfterValidator

FORMS = "env:NAME, file:PATH, prefect-block:NAME or aws-secretsmanager:ID#KEY"
_PATTERNS = {
    "env": re.compile(r"[A-Za-z_][A-Za-z0-9_]*"),
    "file": re.compile(r".+"),
    "prefect-block": re.compile(r"[a-z0-9-]+"),
    "aws-secretsmanager": re.compile(r"[^#]+(#[^#]+)?"),
}


def split_reference(reference: str) -> tuple[str, str]:
    """Given a reference, return its kind and its place. Raise ValueError when it is none; the message never repeats the text, since it may be a secret."""
    kind, colon, place = reference.partition(":")
    pattern = _PATTERNS.get(kind)
    if not colon or pattern is None or not pattern.fullmatch(place):
        raise ValueError(f"not a secret reference; allowed are {FORMS}. A secret itself never stands in the file")
    return kind, place


# How variables are named here; a token that was pasted in the place of its variable's name has lower-case letters, '-' or the like.
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
# In base64, as keys are: long, and capitals, small letters and digits mixed. Folders and files are not named so.
_KEY_LIKE = re.compile(r"(?=[^/]*[a-z])(?=[^/]*[A-Z])(?=[^/]*[0-9])[A-Za-z0-9+=_-]{20,}")


def shown_reference(reference: str) -> str:
    """Given a reference, return it as it may stand in a message: whole, but of what looks like a secret in the place of a name or path three characters.

    `env:DB_PASSWORD` and `file:/run/secrets/password` are shown whole, `env:hunter2x9` as `env:hun…`. Never raises.
    """
    kind, _, place = reference.partition(":")
    whole = {"env": _looks_like_a_variable, "file": _looks_like_a_path}.get(kind, lambda _place: kind in _PATTERNS)
    return reference if whole(place) else f"{kind[:20]}:{place[:3]}…"


def _looks_like_a_variable(place: str) -> bool:
    return _VARIABLE.fullmatch(place) is not None


def _looks_like_a_path(place: str) -> bool:
    if "/" not in place or "-----BEGIN" in place or any(not character.isprintable() for character in place):
        return False
    return not any(_KEY_LIKE.fullmatch(step) for step in place.split("/"))


def _checked(reference: str) -> str:
    split_reference(reference)
    return reference


SecretReference = Annotated[str, AfterValidator(_checked)]
