"""Indexes that two jobs of pg_restore must not make at once.

An index that is its table's CLUSTER or REPLICA IDENTITY index is one entry of two statements, sent as one transaction: CREATE INDEX takes SHARE on the table, and the
ALTER TABLE after it a stronger lock (dumpIndex, src/bin/pg_dump/pg_dump.c; PostgreSQL manual, Explicit Locking). Two such entries of one table, each with its SHARE
lock, wait for each other for ever: a deadlock, the surer the longer the indexes take. pg_restore keeps apart only entries that lock a table exclusively from the
beginning (identify_locking_dependencies, pg_backup_archiver.c). So all but the first of a table are left for a pass of their own.
"""

import re
from collections.abc import Collection, Iterator

from core.restore_listing import Choice, Listed, choice_of

# What `pg_restore --verbose --file=-` prints before each entry.
_ENTRY = re.compile(r"^-- TOC entry (\d+) \(class \d+ OID \d+\)$", re.MULTILINE)
_INDEX = re.compile(r"^CREATE (?:UNIQUE )?INDEX ", re.MULTILINE)
_STRONGER = re.compile(
    r"^ALTER TABLE (?:ONLY )?(?P<table>.+) (?:CLUSTER ON|REPLICA IDENTITY USING INDEX) ", re.MULTILINE
)


def postponed_indexes(script: str) -> frozenset[int]:
    """Given the script of an archive's post-data section, return the dump ids of the indexes that must wait until another one of the same table is there."""
    seen: set[str] = set()
    postponed = set()
    for dump_id, statements in _entries(script):
        if not _INDEX.search(statements):
            continue
        tables = {match["table"] for match in _STRONGER.finditer(statements)}
        if tables & seen:
            postponed.add(dump_id)
        seen |= tables
    return frozenset(postponed)


def in_passes(listed: Listed, choice: Choice, postponed: Collection[int]) -> tuple[str, ...]:
    """Given an archive's contents, what is to be restored of it, and the indexes that must wait, return a list file for each pass of pg_restore.

    What needs a postponed entry (a comment on it, a foreign key to its columns) is in the same pass as it.
    """
    chosen = set(map(int, re.findall(r"^(\d+);", choice.list_text, re.MULTILINE)))
    waits = set(postponed) & chosen
    if not waits:
        return (choice.list_text,)
    before = 0
    while len(waits) != before:
        before = len(waits)
        waits |= {
            number for number, needs in listed.depends_on.items() if number in chosen and waits.intersection(needs)
        }
    everything = {entry.dump_id for entry in listed.entries}
    return tuple(choice_of(listed, {}, silent=everything - one).list_text for one in (chosen - waits, waits))


def _entries(script: str) -> Iterator[tuple[int, str]]:
    parts = _ENTRY.split(script)
    return zip(map(int, parts[1::2]), parts[2::2], strict=True)
