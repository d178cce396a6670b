"""Cutting the SQL that pg_dumpall writes into statements and tokens. It knows the few forms that occur there and raises ValueError for any other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

# What pg_dumpall puts around its output since 2025, so that psql takes no command from inside it (CVE-2025-8714).
_META = re.compile(r"\\(?:un)?restrict [A-Za-z0-9]+[ \t]*(?=\r?\n|\Z)")
_BLANK = re.compile(r"[ \t\r\n\f\v]+")
_COMMENT = re.compile(r"--[^\n]*")
_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*(?:\.[A-Za-z_][A-Za-z0-9_$]*)*|-?[0-9]+(?:\.[0-9]+)?")
_NAME = re.compile(r'"((?:[^"]|"")+)"')
_STRING = re.compile(r"'((?:[^']|'')*)'")
_ESCAPED = re.compile(r"[Ee]'((?:[^'\\]|''|\\\\)*)'")
_SYMBOLS = "=,()"


@dataclass(frozen=True)
class Token:
    """A word (keyword, plain name or number), a name in double quotes, a string, or a symbol. `text` is without the quotes."""

    kind: Literal["word", "name", "string", "symbol"]
    text: str

    def says(self, keyword: str) -> bool:
        """Whether it is this keyword or symbol, given in capitals."""
        return self.kind in {"word", "symbol"} and self.text.upper() == keyword


def statements(text: str) -> Iterator[tuple[Token, ...]]:
    """Given SQL text, give each statement's tokens, without the semicolon. Raise ValueError for what is not understood or does not end."""
    tokens: list[Token] = []
    position = 0
    while position < len(text):
        if text[position] == ";":
            if tokens:
                yield tuple(tokens)
            tokens, position = [], position + 1
        elif skipped := _BLANK.match(text, position) or _COMMENT.match(text, position):
            position = skipped.end()
        elif meta := None if tokens else _META.match(text, position):
            position = meta.end()
        else:
            token, position = _token(text, position)
            tokens.append(token)
    if tokens:
        raise ValueError(f"the text ends within a statement that begins with {tokens[0].text[:40]!r}")


def _token(text: str, position: int) -> tuple[Token, int]:
    if match := _STRING.match(text, position):
        return Token("string", match[1].replace("''", "'")), match.end()
    if match := _ESCAPED.match(text, position):
        return Token("string", match[1].replace("''", "'").replace("\\\\", "\\")), match.end()
    if match := _NAME.match(text, position):
        return Token("name", match[1].replace('""', '"')), match.end()
    if match := _WORD.match(text, position):
        if text[match.end() : match.end() + 1] in {"'", '"'}:
            raise ValueError(f"a string of a kind that is not known: {match[0][:20]}…")
        return Token("word", match[0]), match.end()
    if text[position] in _SYMBOLS:
        return Token("symbol", text[position]), position + 1
    # Never the text itself: it may be the middle of a password.
    raise ValueError(
        f"line {text.count(chr(10), 0, position) + 1}: a character that is not understood: {text[position]!r}"
    )


class Cursor:
    """Reads a statement's tokens from left to right; what does not fit raises ValueError."""

    def __init__(self, tokens: tuple[Token, ...]) -> None:
        self._tokens, self._position = tokens, 0

    @property
    def at_end(self) -> bool:
        """Whether all has been read."""
        return self._position == len(self._tokens)

    def take(self, *keywords: str) -> bool:
        """Read these keywords if they come next; tell whether they did."""
        following = self._tokens[self._position : self._position + len(keywords)]
        if len(following) < len(keywords) or not all(
            token.says(word) for token, word in zip(following, keywords, strict=True)
        ):
            return False
        self._position += len(keywords)
        return True

    def expect(self, *keywords: str) -> None:
        """Read these keywords."""
        if not self.take(*keywords):
            raise ValueError(f"{' '.join(keywords)} was expected")

    def name(self) -> str:
        """Read a name: plain (in small letters, as PostgreSQL reads it) or in double quotes."""
        token = self._next()
        if token.kind == "word" and not token.text[0].isdigit() and token.text[0] != "-":
            return token.text.lower()
        if token.kind != "name":
            raise ValueError("a name was expected")
        return token.text

    def string(self) -> str:
        """Read a string."""
        token = self._next()
        if token.kind != "string":
            raise ValueError("a string was expected")
        return token.text

    def number(self) -> int:
        """Read a whole number."""
        token = self._next()
        if token.kind != "word" or not re.fullmatch(r"-?[0-9]+", token.text):
            raise ValueError("a number was expected")
        return int(token.text)

    def end(self) -> None:
        """Nothing may follow."""
        if not self.at_end:
            raise ValueError("more follows than was expected")

    def _next(self) -> Token:
        if self.at_end:
            raise ValueError("it ends too early")
        self._position += 1
        return self._tokens[self._position - 1]


def shown(tokens: tuple[Token, ...]) -> str:
    """How a message calls a statement: its first words. Strings are left out, since a password may be one."""
    words = ["'…'" if token.kind == "string" else token.text for token in tokens[:8]]
    return " ".join(words)[:120] + (" …" if len(tokens) > 8 else "")
