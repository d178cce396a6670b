"""One spelling for a JSON document, so that its bytes can be signed and hashed: sorted keys, no blanks, UTF-8 (after RFC 8785, without floats)."""

import hashlib
import json
from typing import Any


def canonical_bytes(document: Any) -> bytes:
    """Given a JSON document (str, int, bool, None, list, dict with text keys), return its canonical bytes. Raise TypeError for a float or another type.

    Floats are refused because their text differs between writers; figures are stored as integers with their unit in the name (`_bytes`, `_ms`).
    """
    _refuse_floats(document)
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """The SHA-256 of data as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _refuse_floats(value: Any) -> None:
    if isinstance(value, float):
        raise TypeError(f"a canonical document holds no floats: {value!r}; store an integer with its unit")
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a canonical document has text keys only: {key!r}")
            _refuse_floats(item)
    elif isinstance(value, list | tuple):
        for item in value:
            _refuse_floats(item)
    elif not isinstance(value, str | int | None):
        raise TypeError(f"a canonical document holds no {type(value).__name__}: {value!r}")
