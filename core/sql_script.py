"""A file of SQL taken apart into statements as psql does it, so that each can be run and named by its line, and what only psql understands is seen before anything runs.

Rules: PostgreSQL manual, "Lexical Structure", and psql's own scanner (src/fe_utils/psqlscan.l): a semicolon ends a statement unless it stands in a string, a quoted
name, a comment, parentheses, or in the BEGIN ATOMIC … END body of CREATE FUNCTION or CREATE PROCEDURE.
"""

import re
from collections.abc import Iterator
from itertools import pairwise

from core.manifest import Record

# In this order: what begins like another comes first. A dollar quote needs no name before it, which the word rule takes care of.
_TOKEN = re.compile(
    r"""
      (?P<line_comment>--[^\n\r]*)
    | (?P<block_comment>/\*)
    | (?P<escape_string>[eE]'(?:[^'\\]|\\.|'')*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")*")
    | (?P<dollar>\$(?P<tag>(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?)\$.*?\$(?P=tag)\$)
    | (?P<open_quote>[eE]?'|"|\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
    | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
    | (?P<number>[0-9][A-Za-z0-9_.]*|\$[0-9]+)
    | (?P<space>\s+)
    | (?P<other>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
_ENDS_TRANSACTION = frozenset({"abort", "begin", "commit", "end", "rollback", "start"})


class Statement(Record):
    """A statement without its semicolon. `line` is where its first word stands, counted from 1; `words` are its words outside quotes and comments, in small letters."""

    text: str
    line: int
    words: tuple[str, ...]


class ScriptError(ValueError):
    """A file that cannot be run as it is; `line` is counted from 1."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(line, why)
        self.line, self.why = line, why

    def __str__(self) -> str:
        return f"line {self.line}: {self.why}"


def split_script(script: str) -> tuple[Statement, ...]:
    """Given a file's text, return its statements. Raise ScriptError for a backslash command of psql, and for a quote, comment or parenthesis that is not closed."""
    return tuple(_Splitter(script).statements())


def fit_statements(script: str) -> tuple[Statement, ...]:
    """As `split_script`, for statements that are to run in one transaction of ours. Raise ScriptError also for the first that would begin or end one, or that
    needs psql at the other end."""
    fit = []
    # One by one, since what follows COPY FROM STDIN is no SQL.
    for statement in _Splitter(script).statements():
        _refuse_unfit(statement)
        fit.append(statement)
    return tuple(fit)


def _refuse_unfit(statement: Statement) -> None:
    words = statement.words
    if _is_transaction_control(words):
        raise ScriptError(
            statement.line,
            f"{' '.join(words[:3]).upper()} would begin or end a transaction; the file runs in one, which is committed at its end",
        )
    if words[:1] == ("copy",) and any(pair in {("from", "stdin"), ("to", "stdout")} for pair in pairwise(words)):
        raise ScriptError(
            statement.line, "COPY FROM STDIN and TO STDOUT need psql at the other end: write INSERT or UPDATE"
        )


def _is_transaction_control(words: tuple[str, ...]) -> bool:
    """ROLLBACK TO a savepoint stays within the transaction; START REPLICATION and the like are no SQL, so every START is meant."""
    if words[:2] in {("prepare", "transaction"), ("commit", "prepared"), ("rollback", "prepared")}:
        return True
    if words[:1] == ("rollback",):
        rest = words[2:] if words[1:2] in {("work",), ("transaction",)} else words[1:]
        return rest[:1] != ("to",)
    return words[:1] != () and words[0] in _ENDS_TRANSACTION


class _Splitter:
    def __init__(self, script: str) -> None:
        self._script = script
        self._begin()

    def _begin(self) -> None:
        self._start: int | None = None
        self._words: list[str] = []
        self._open_parentheses: list[int] = []
        self._begin_depth = 0

    def statements(self) -> Iterator[Statement]:
        position = 0
        while position < len(self._script):
            match = _TOKEN.match(self._script, position)
            assert match is not None  # noqa: S101 - for the type checker: the last alternative matches anything
            kind, text = match.lastgroup or "", match.group()
            # `tag` is the last group to match within a dollar quote.
            kind = "dollar" if kind == "tag" else kind
            end = match.end()
            if kind == "block_comment":
                end = self._block_comment_end(position)
            elif kind not in {"space", "line_comment"}:
                if text == ";" and not self._open_parentheses and not self._begin_depth:
                    yield from self._finish(position)
                else:
                    self._take(kind, text, position)
            position = end
        if self._open_parentheses:
            raise ScriptError(self._line(self._open_parentheses[-1]), "a parenthesis is not closed")
        yield from self._finish(len(self._script))

    def _take(self, kind: str, text: str, position: int) -> None:
        if self._start is None:
            self._start = position
        if kind == "open_quote":
            raise ScriptError(self._line(position), f"the quote {text} is not closed")
        if kind == "word":
            self._take_word(text.lower())
        elif text == "\\":
            command = self._script[position:].split(maxsplit=1)[0]
            raise ScriptError(self._line(position), f"{command} is a command of psql, which does not run this file")
        elif text == "(":
            self._open_parentheses.append(position)
        elif text == ")" and self._open_parentheses:
            self._open_parentheses.pop()

    def _take_word(self, word: str) -> None:
        self._words.append(word)
        if self._open_parentheses or not self._makes_routine():
            return
        if word == "begin" or (word == "case" and self._begin_depth):
            self._begin_depth += 1
        elif word == "end" and self._begin_depth:
            self._begin_depth -= 1

    def _makes_routine(self) -> bool:
        words = self._words[1:] if self._words[1:3] != ["or", "replace"] else self._words[3:]
        return self._words[0] == "create" and words[:1] in (["function"], ["procedure"])

    def _finish(self, end: int) -> Iterator[Statement]:
        if self._start is not None:
            yield Statement(
                text=self._script[self._start : end].rstrip(), line=self._line(self._start), words=tuple(self._words)
            )
        self._begin()

    def _block_comment_end(self, position: int) -> int:
        depth, at = 1, position + 2
        while depth:
            edge = _BLOCK_EDGE.search(self._script, at)
            if edge is None:
                raise ScriptError(self._line(position), "the comment /* is not closed")
            depth += 1 if edge.group() == "/*" else -1
            at = edge.end()
        return at

    def _line(self, position: int) -> int:
        return self._script.count("\n", 0, position) + 1
