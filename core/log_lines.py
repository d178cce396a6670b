"""One line of a log: whether it tells an error, what it is as a signature (values masked), and how it may be shown.

Lines come from outside: they are of any length, may be no text at all, and may hold secrets that were never ours. So each is cut before it is looked at, masked
before it is kept, and only its first line counts (of a stack trace the rest is places in code, which move with each version).
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from core.redaction import MASK, redact, redact_output

# As brief as a sentence may be; a signature is told apart by its first words.
SIGNATURE_BYTES = 200
SIGNATURE_WORDS = 32
WORD_LETTERS = 48
SHOWN_BYTES = 200
# Of a longer line only the beginning is looked at; a JSON line must fit to be read as one.
_TEXT_LETTERS = 2000
_JSON_LETTERS = 256 * 1024

DEFAULT_PATTERN = r"\b(?:ERROR|FATAL|CRITICAL|Traceback|\w*Exception|\w*Error)\b"
# As loggers write them: words, and the numbers of pino and bunyan (50 error, 60 fatal).
ERROR_LEVELS = frozenset(
    {"error", "err", "fatal", "critical", "crit", "alert", "emerg", "emergency", "panic", "severe"}
)
ERROR_NUMBERS = frozenset({50, 60})
_LEVEL_KEYS = ("level", "severity", "log.level", "levelname", "lvl")
_MESSAGE_KEYS = ("message", "msg", "log")
# As the Elastic Common Schema and the serializers of pino and bunyan have it.
_CAUSE_KEYS, _CAUSE_PARTS = ("error", "err", "exception"), ("type", "name", "message", "msg")

_COLOURS = re.compile(r"\x1b\[[0-9;?]{0,16}[ -/]{0,4}[@-~]")
# A word so long that has a digit is a key or an identity, whatever it is called.
LONG_LETTERS = 32
_SECRET_WORDS = ("token", "secret", "key", "authorization", "passw", "passphrase", "pwd", "cookie", "credential")
_NAMED_SECRET = re.compile(
    r"((?:token|secret|api[_-]?key|access[_-]?key|authorization|passw(?:or)?d|passphrase|pwd|cookie|credential)s?"
    r"""[\w-]{0,20}["']?\s{0,3}[=:]\s{0,3})(?:(?:Bearer|Basic)\s{1,3})?(?:"[^"]*"|'[^']*'|[^\s,;&"']+)""",
    re.IGNORECASE,
)
_SIGN_IN = re.compile(r"\b(Bearer|Basic)\s{1,3}[\w.~+/=-]{8,}", re.IGNORECASE)
_TOKEN = re.compile(r"\beyJ[\w-]{8,}(?:\.[\w-]+)*")
_EMAIL = re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,6}")
_LONG = re.compile(rf"(?<![\w+=-])(?=[A-Za-z_+=-]{{0,64}}\d)[A-Za-z0-9_+=-]{{{LONG_LETTERS},}}")
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\b")
_DIGIT = re.compile(r"\d")
_CLOCK = r"\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?"
_TIME = re.compile(rf"\b\d{{4}}-\d\d-\d\d(?:[T ]{_CLOCK})?(?:Z\b| ?[+-]\d\d:?\d\d\b)?|\b{_CLOCK}")
_ADDRESS = re.compile(r"\b\d{1,3}(?:\.\d{1,3}){3}\b(?::\d{1,5}\b)?")
_ADDRESS_6 = re.compile(
    r"(?<![\w:.])\[?(?=[0-9a-fA-F:]{0,40}\d)(?:[0-9a-fA-F]{0,4}:){2,7}[0-9a-fA-F]{0,4}\]?(?::\d{1,5})?(?![\w:])"
)
_HEX = re.compile(r"\b0[xX][0-9a-fA-F]+\b|\b(?=[a-fA-F]{0,32}\d)[0-9a-fA-F]{8,}\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# What stands before the message of a line that is no JSON: it is the same for all, and would make any two short messages alike.
_BEFORE = frozenset({"", "time", "num", "ip", "hex", "uuid", "warn", "warning", "info", "stderr", "f", *ERROR_LEVELS})


@dataclass(frozen=True)
class ErrorLine:
    """A line that tells an error: as a signature, and as it may be shown."""

    signature: str
    shown: str


def error_line(raw: str, pattern: re.Pattern[str]) -> ErrorLine | None:
    """Given a line as it was logged, return it when it tells an error: of a JSON line by its level, of any other by a pattern; else None. Never raises."""
    document = _document(raw)
    if document is None:
        text = _plain(raw)
        return told(text) if pattern.search(text) else None
    level = _level(document)
    message = _message(document)
    if level is None:
        plain = _plain(message or raw)
        return told(plain) if pattern.search(plain) else None
    return told(message or raw) if level else None


def told(message: str) -> ErrorLine:
    """Given the text of an error, or a JSON line that holds it, return it as a signature and as it may be shown."""
    document = _document(message)
    clean = _without_secrets(_plain((_message(document) if document else "") or message))
    return ErrorLine(_signature(clean), cut_to_bytes(clean, SHOWN_BYTES))


def cut_to_bytes(text: str, most: int) -> str:
    """Given a text, return its beginning of at most so many bytes in UTF-8, with … where it was cut."""
    raw = text.encode("utf-8", "replace")
    return raw.decode() if len(raw) <= most else raw[: most - 3].decode("utf-8", "ignore") + "…"


def _plain(text: str) -> str:
    """The first line that is not empty, cut, without colours and without what is no character."""
    beginning = text[: 4 * _TEXT_LETTERS].lstrip()
    first = _COLOURS.sub("", beginning.splitlines()[0])[:_TEXT_LETTERS].strip() if beginning else ""
    return first if first.isprintable() else "".join(one if one.isprintable() else " " for one in first).strip()


def _without_secrets(text: str) -> str:
    lower = text.lower()
    # Each search costs more than to see that it would find nothing.
    text = redact_output(text) if "password" in lower else redact(text)
    if "-" in lower:
        text = _UUID.sub("<UUID>", text)
    if any(word in lower for word in _SECRET_WORDS):
        text = _NAMED_SECRET.sub(rf"\g<1>{MASK}", text)
    if "bearer " in lower or "basic " in lower:
        text = _SIGN_IN.sub(rf"\g<1> {MASK}", text)
    if "eyj" in lower:
        text = _TOKEN.sub("<TOKEN>", text)
    if "@" in lower:
        text = _EMAIL.sub("<EMAIL>", text)
    return _LONG.sub("<ID>", text) if any(len(word) >= LONG_LETTERS for word in text.split()) else text


def _without_values(text: str) -> str:
    """Times, addresses and numbers left open, in this order: the later ones would take the former to pieces. No digit is left."""
    text = text.replace("<*>", "<any>")
    if not _DIGIT.search(text):
        return text
    if ":" in text or "-" in text:
        text = _TIME.sub("<TIME>", text)
    if "." in text:
        text = _ADDRESS.sub("<IP>", text)
    if text.count(":") > 1:
        text = _ADDRESS_6.sub("<IP>", text)
    return _NUMBER.sub("<NUM>", _HEX.sub("<HEX>", text))


def _signature(clean: str) -> str:
    found = _without_values(clean).split()
    begin = 0
    while begin < len(found) - 1 and found[begin].strip("[](){}<>:|,;-.").lower() in _BEFORE:
        begin += 1
    words: list[str] = []
    size = 0
    for word in found[begin : begin + SIGNATURE_WORDS]:
        short = word[:WORD_LETTERS]
        size += len(short.encode("utf-8", "replace")) + 1
        if words and size > SIGNATURE_BYTES:
            break
        words.append(short)
    return " ".join(words) or "(nothing)"


def _document(raw: str) -> dict[str, Any] | None:
    text = raw[: _JSON_LETTERS + 1].strip()
    if not text.startswith("{") or len(text) > _JSON_LETTERS:
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _level(document: dict[str, Any]) -> bool | None:
    """Whether the line's level is one of errors; None when it has none."""
    for key in _LEVEL_KEYS:
        value = value_at(document, key)
        if isinstance(value, str) and value.strip():
            word = value.strip().lower()
            return word in ERROR_LEVELS or word in {str(one) for one in ERROR_NUMBERS}
        if isinstance(value, int | float) and not isinstance(value, bool):
            return value in ERROR_NUMBERS
    return None


def _message(document: dict[str, Any]) -> str:
    texts = (document.get(key) for key in _MESSAGE_KEYS)
    return with_cause(next((one for one in texts if isinstance(one, str) and one.strip()), ""), document)


def with_cause(message: str, document: Any) -> str:
    """Given a message and the document that it stands in, return it with the error that is told beside it: "request errored" alone is any trouble."""
    first = message.strip().partition("\n")[0]
    for key in _CAUSE_KEYS:
        value = value_at(document, key)
        parts = [value] if isinstance(value, str) else [value_at(document, f"{key}.{one}") for one in _CAUSE_PARTS]
        cause = ": ".join(dict.fromkeys(one.strip() for one in parts if isinstance(one, str) and one.strip()))
        if cause:
            return cause if not first else first if cause in first else f"{first}: {cause}"
    return message


def value_at(document: Any, path: str) -> Any:
    """Given a document and a path with dots, return what stands there, whether the dots are in the keys or between documents; None when nothing does."""
    if not isinstance(document, dict):
        return None
    if path in document:
        return document[path]
    for cut in (number for number, letter in enumerate(path) if letter == "."):
        found = value_at(document.get(path[:cut]), path[cut + 1 :])
        if found is not None:
            return found
    return None
