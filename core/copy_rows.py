"""Counting the rows of each table in the SQL that `pg_restore --section=data --file=-` prints, at the speed of C's memchr.

Outside of data the text is scanned as SQL, so that a name with a line break and "COPY" in it is not taken for a command: comments, quoted names,
string literals. In data a row is a line, and the line `\\.` ends it; a backslash in a value is doubled, so no value looks like that
(manual, COPY, "Text Format").
"""

import re

TableName = tuple[str, str]

_IDENTIFIER = rb'(?:[^\s".(),;]+|"(?:[^"]|"")+")'
_HEADER = re.compile(
    rb"COPY (" + _IDENTIFIER + rb")\.(" + _IDENTIFIER + rb') (?:\((?:[^"();]|"(?:[^"]|"")*")*\))? ?FROM stdin;\n'
)
_INTERESTING = re.compile(rb"--|'|\"|\nCOPY ")
_COPY = b"\nCOPY "
_END = b"\n\\.\n"
# Table names and 1,600 columns of 63 bytes, quoted, with room to spare.
_LONGEST_HEADER = 1024 * 1024


class CopyRows:
    """Fed with the text in pieces of any size. `rows` tells, by (schema, name), how many rows were seen."""

    def __init__(self) -> None:
        self.rows: dict[TableName, int] = {}
        # A line break before everything, so that each beginning of a line has one in front.
        self._rest = b"\n"
        self._table: TableName | None = None

    def feed(self, piece: bytes) -> None:
        """Take the next piece of text. Raise ValueError when it cannot be such a text."""
        text = self._rest + piece
        position = 0
        while True:
            if self._table is None:
                position, go_on = self._outside(text, position)
            else:
                position, go_on = self._inside(text, position, self._table)
            if not go_on:
                break
        self._rest = text[position:]

    def finish(self) -> None:
        """Tell that the text has ended. Raise ValueError when it ended within a table's data."""
        if self._table is not None:
            raise ValueError(f"the text ends within the data of {'.'.join(self._table)}")

    def _outside(self, text: bytes, position: int) -> tuple[int, bool]:
        """Go on to the next table's data. Return where to go on, and whether there is something to go on with."""
        while found := _INTERESTING.search(text, position):
            start = found.start()
            if found.group() == _COPY:
                return self._header(text, start)
            # A comment keeps its line break: a COPY may follow it.
            end = text.find({b"--": b"\n", b"'": b"'", b'"': b'"'}[found.group()], found.end())
            if end < 0:
                return start, False
            position = end if found.group() == b"--" else end + 1
        # The last bytes may be the beginning of something.
        return max(position, len(text) - len(_COPY) + 1), False

    def _header(self, text: bytes, start: int) -> tuple[int, bool]:
        header = _HEADER.match(text, start + 1)
        if header is None:
            if len(text) - start > _LONGEST_HEADER:
                raise ValueError(f"not a COPY command: {text[start + 1 : start + 100]!r}")
            return start, False
        self._table = (_plain(header.group(1)), _plain(header.group(2)))
        self.rows.setdefault(self._table, 0)
        # The header's line break stands before the first row.
        return header.end() - 1, True

    def _inside(self, text: bytes, position: int, table: TableName) -> tuple[int, bool]:
        """Count line breaks from `position` on: the header's stands for the first row, the last row's belongs to the end's."""
        # One byte is looked for by memchr, forty times as fast: much data has no backslash at all.
        backslash = text.find(b"\\", position)
        end = text.find(_END, max(position, backslash - 1)) if backslash >= 0 else -1
        if end >= 0:
            self.rows[table] += text.count(b"\n", position, end)
            self._table = None
            return end + len(_END) - 1, True
        # The last bytes may be the beginning of the end: they are counted with what follows.
        last = max(position, len(text) - len(_END) + 1)
        self.rows[table] += text.count(b"\n", position, last)
        return last, False


def _plain(identifier: bytes) -> str:
    text = identifier.decode(errors="surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text
