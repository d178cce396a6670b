"""What `pg_restore --list` prints, of every major from 14 on: `DUMPID; CATALOGUE_OID OID DESCRIPTION SCHEMA TAG OWNER` (PrintTOCSummary, pg_backup_archiver.c)."""

import re

from core.manifest import Record

_LINE = re.compile(r"(?P<dump_id>\d+); (?P<catalogue_oid>\d+) (?P<oid>\d+) (?P<rest>.*)")
# Of more than one word, so that the schema's beginning is known; a description that is not here is taken to be one word.
_LONG_KINDS = tuple(
    sorted(
        (
            "ACCESS METHOD",
            "BLOB COMMENTS",
            "BLOB METADATA",
            "CHECK CONSTRAINT",
            "DATABASE PROPERTIES",
            "DEFAULT ACL",
            "EVENT TRIGGER",
            "FK CONSTRAINT",
            "FOREIGN DATA WRAPPER",
            "FOREIGN SERVER",
            "FOREIGN TABLE",
            "INDEX ATTACH",
            "LARGE OBJECT",
            "MATERIALIZED VIEW",
            "MATERIALIZED VIEW DATA",
            "OPERATOR CLASS",
            "OPERATOR FAMILY",
            "PROCEDURAL LANGUAGE",
            "PUBLICATION TABLE",
            "PUBLICATION TABLES IN SCHEMA",
            "ROW SECURITY",
            "SECURITY LABEL",
            "SEQUENCE OWNED BY",
            "SEQUENCE SET",
            "SHELL TYPE",
            "STATISTICS DATA",
            "SUBSCRIPTION TABLE",
            "TABLE ATTACH",
            "TABLE DATA",
            "TEXT SEARCH CONFIGURATION",
            "TEXT SEARCH DICTIONARY",
            "TEXT SEARCH PARSER",
            "TEXT SEARCH TEMPLATE",
            "USER MAPPING",
        ),
        key=len,
        reverse=True,
    )
)


class Entry(Record):
    """One entry. `words` is the schema (`-`: none), the tag and the owner, as printed: where names hold blanks their borders cannot be told."""

    dump_id: int
    catalogue_oid: int
    oid: int
    kind: str
    words: str


def parse_listing(text: str) -> tuple[Entry, ...]:
    """Given what `pg_restore --list` printed, return its entries in order. Raise ValueError for a line that is neither an entry nor a comment (`;`)."""
    entries = []
    for line in listing_lines(text):
        if not line.strip() or line.startswith(";"):
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"not a line of pg_restore --list: {line[:200]!r}")
        kind, words = _split(match["rest"])
        entries.append(
            Entry(
                dump_id=int(match["dump_id"]),
                catalogue_oid=int(match["catalogue_oid"]),
                oid=int(match["oid"]),
                kind=kind,
                words=words,
            )
        )
    return tuple(entries)


def listing_lines(text: str) -> list[str]:
    """Given what `pg_restore --list` printed, return its lines.

    It replaces line feeds and carriage returns in names by blanks (sanitize_line, dumputils.c) and nothing else: what Python calls a line's end too (U+0085,
    U+2028, a form feed) may stand in a name.
    """
    return text.split("\n")


def as_printed(name: str) -> str:
    """Given a name, return it as pg_restore prints it."""
    return name.replace("\n", " ").replace("\r", " ")


def _split(rest: str) -> tuple[str, str]:
    for kind in _LONG_KINDS:
        if rest.startswith(f"{kind} "):
            return kind, rest[len(kind) + 1 :]
    kind, _blank, words = rest.partition(" ")
    return kind, words
