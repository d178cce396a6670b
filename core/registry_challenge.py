"""How a registry asks to be signed in to: the header WWW-Authenticate (RFC 9110, "WWW-Authenticate"; RFC 6750 section 3)."""

import re
from dataclasses import dataclass, field

_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
# A scheme, which no "=" follows, or a parameter with its value, plain or between quotation marks.
_PART = re.compile(
    rf'\s*,*\s*(?:(?P<name>{_WORD})\s*=\s*(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>{_WORD}))|(?P<scheme>{_WORD})(?=[\s,]|$))'
)


@dataclass
class Challenge:
    """One way to sign in: `bearer` or `basic`, in lower case, and its parameters by their names in lower case."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def read_challenges(header: str) -> list[Challenge]:
    """Given the header's value (several of them joined by commas), return the ways to sign in, in order. What cannot be read ends the list."""
    found: list[Challenge] = []
    position = 0
    while match := _PART.match(header, position):
        position = match.end()
        if match["scheme"]:
            found.append(Challenge(match["scheme"].lower()))
        elif found:
            quoted = match["quoted"]
            value = match["plain"] if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            found[-1].parameters.setdefault(match["name"].lower(), value)
    return found
