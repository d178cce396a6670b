"""Saying what is wrong with an environment file so that its author can mend it: the key, what was found, what is allowed.

What was found is left out wherever it may be a secret that was pasted by mistake: at keys of secret references, at unknown keys, and in tables.
"""

import difflib
from collections.abc import Callable

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.environment_keys import Path, dotted, keys_at, place_at
from core.secret_reference import FORMS

LONGEST_QUOTED = 60
NAME_RULE = "a name has up to 40 lower-case letters, digits and '-', and starts with a letter"
# Where pydantic speaks of Python's types, the file's author is told TOML's.
_TABLE = "a table is needed, such as [store] or [databases.app] with keys below it"
_RULES = {
    "model_type": _TABLE,
    "model_attributes_type": _TABLE,
    "dict_type": _TABLE,
    "tuple_type": 'a list is needed, such as ["auth", "storage"]',
    "string_type": "a text in quotes is needed",
    "int_parsing": "a whole number is needed",
    "int_type": "a whole number is needed",
    "int_from_float": "a whole number is needed",
    "bool_parsing": "true or false is needed",
    "bool_type": "true or false is needed",
}


def explain(error: ValidationError, origin: Callable[[Path], str]) -> tuple[str, ...]:
    """Given pydantic's error and a function that names where a key's value comes from ("" for the file), return one sentence for each mistake."""
    return tuple(_sentence(details, origin) for details in error.errors(include_url=False))


def suggest(word: str, allowed: tuple[str, ...]) -> str:
    """Given an unknown key and those allowed, return the hint that follows "unknown key"."""
    near = difflib.get_close_matches(word, allowed, n=1, cutoff=0.6)
    if near:
        return f"did you mean {near[0]}?"
    return f"allowed here: {', '.join(allowed)}" if allowed else "no keys are allowed here"


def _sentence(details: ErrorDetails, origin: Callable[[Path], str]) -> str:
    path = details["loc"]
    if path and path[-1] == "[key]":
        return f"{dotted(path[:-2])}: {path[-2]!r} is no name; {NAME_RULE}"
    source = origin(path)
    key = f"{dotted(path) or 'the file'}{f' (from {source})' if source else ''}"
    return f"{key}: {_what_is_wrong(details, path)}"


def _what_is_wrong(details: ErrorDetails, path: Path) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "extra_forbidden":
        return f"unknown key; {suggest(str(path[-1]), keys_at(path[:-1]))}"
    place = place_at(path)
    if kind == "missing":
        description = place.field.description if place and place.field else ""
        return f"missing. {description}".strip()
    if place is not None and place.is_secret and kind != "value_error":
        return f"not a secret reference; allowed are {FORMS}. A secret itself never stands in the file"
    rule = _RULES.get(kind) or message.removeprefix("Value error, ").replace("Input should be ", "allowed is ")
    found = "" if place is None or place.is_secret or place.is_composite else _quoted(details["input"])
    return f"found {found}, {rule}" if found and found not in rule else rule


def _quoted(value: object) -> str:
    """The value as it may be shown; empty when it is a table, long, or looks like an address with credentials."""
    if not isinstance(value, str | int | float):
        return ""
    text = repr(value)
    return "" if len(text) > LONGEST_QUOTED or any(sign in text for sign in "@=") else text
