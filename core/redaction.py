"""Taking secrets out of text. Every secret that is resolved is registered here, and every error, log line and report passes through `redact`."""

import re
import threading
from urllib.parse import quote, quote_plus

MASK = "*****"
# Shorter values would mask ordinary words and numbers; a check warns of secrets this short.
SHORTEST = 4

# Not past a slash: in http://registry:5000/app@sha256:… nothing is a password.
_IN_ADDRESS = re.compile(r"(?<=://)(?P<user>[^\s/:@]*):[^\s/]+(?=@)")
_NAMED = re.compile(r"(?P<name>\b(?:PG)?password\s*[=:]\s*)(?:'[^']*'|\"[^\"]*\"|[^\s,;&]+)", re.IGNORECASE)

_lock = threading.Lock()
_known: dict[str, None] = {}


def register_secret(value: str) -> None:
    """Given a secret's value, have `redact` mask it from now on in this process, plain and URL-encoded. Values under 4 characters are not registered."""
    if len(value) < SHORTEST:
        return
    with _lock:
        # Longest first, so that a secret which contains another one is masked whole.
        forms = {
            value,
            quote(value, safe=""),
            quote_plus(value),
            *(line for line in value.splitlines() if len(line) >= 16),
        }
        ordered = sorted({*_known, *forms}, key=len, reverse=True)
        _known.clear()
        _known.update(dict.fromkeys(ordered))


def redact(text: str) -> str:
    """Given any text, return it with every registered secret, and every password in an address (scheme://user:password@host), replaced by `*****`."""
    for secret in tuple(_known):
        if secret in text:
            text = text.replace(secret, MASK)
    return _IN_ADDRESS.sub(rf"\g<user>:{MASK}", text) if "://" in text else text


def redact_output(text: str) -> str:
    """Given what a foreign program wrote, return it redacted, with the values of PGPASSWORD= and password=, too: such a program has secrets that were never ours."""
    return _NAMED.sub(rf"\g<name>{MASK}", redact(text))


def redact_end(text: str) -> str:
    """Given the end of a longer text, return it redacted, without so much of its beginning as may be the rest of a secret that the cut went through."""
    longest = max(map(len, _known), default=1)
    return redact(text)[longest - 1 :]
