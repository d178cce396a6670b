"""Signed JSON in the bucket: written as canonical bytes, read back only when a known key signed it."""

import json
from collections.abc import Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from core.canonical import canonical_bytes
from core.errors import IntegrityError, PermanentError
from core.manifest import Record
from core.signature import SigningKey, open_seal, seal

R = TypeVar("R", bound=Record)


def sealed_bytes(record: Record, key: SigningKey) -> bytes:
    """Given a record and the key that signs, return the bytes to store: the signed envelope as canonical JSON."""
    return canonical_bytes(seal(record.model_dump(mode="json"), key))


def open_sealed(stored: bytes, keys: Sequence[SigningKey], *, what: str, on: str) -> dict[str, Any]:
    """Given stored bytes and the accepted keys, return the signed document.

    Raise IntegrityError, naming `what` ("the manifest") and `on` (its address), when it is not signed JSON, not signed by one of the keys, or changed.
    """
    try:
        document = open_seal(json.loads(stored), keys)
    except ValueError as error:
        found = "not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else str(error)
        raise _not_trusted(what, on, found) from error
    if not isinstance(document, dict):
        raise _not_trusted(what, on, "not a record")
    return document


def read_record(document: dict[str, Any], record: type[R], *, what: str, on: str) -> R:
    """Given a verified document, return it as a record.

    Raise PermanentError when its `format` is not the one that this version writes (a newer nightshift wrote it), IntegrityError when a field is not right.
    """
    known = record.model_fields["format"].default
    if document.get("format") != known:
        raise PermanentError(
            f"read {what}",
            on,
            f"its format is {document.get('format')!r}, and this nightshift knows {known!r}",
            "Use the nightshift version that wrote it, or a newer one",
        )
    try:
        return record.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(step) for step in first["loc"])
        raise IntegrityError(f"read {what}", on, f"{place}: {first['msg']}") from error


def _not_trusted(what: str, on: str, found: str) -> IntegrityError:
    return IntegrityError(
        f"verify {what}",
        on,
        found,
        next(step for sign, step in _NEXT_STEPS if sign in found),
    )


# By what was found (core.signature.open_seal): each has another cause, and only for the first a key can be the remedy.
_NEXT_STEPS = (
    (
        "does not know",
        "If the signing key was replaced, add the old one to signing.previous_keys; else find out who wrote it",
    ),
    (
        "not JSON",
        "It was damaged, cut short or overwritten: look who wrote it, and whether the bucket has an older version of it",
    ),
    ("", "Find out who wrote it; nightshift has not"),
)
