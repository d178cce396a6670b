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


def _checked(reference: str) -> str:
    split_reference(reference)
    return reference


SecretReference = Annotated[str, AfterValidator(_checked)]
