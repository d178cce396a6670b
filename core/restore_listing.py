"""Which entries of a dump are restored: the list file for `pg_restore -L`, and what is left out and why.

Read from `pg_restore --list --verbose`, which also prints what each entry depends on (PrintTOCSummary, src/bin/pg_dump/pg_backup_archiver.c). A line of a list
file counts by the number at its beginning alone (SortTocFromFile, there). Entries are matched by oid or by dependency; words, whose borders a blank in a name
hides, only where nothing else tells.
"""

import re
from collections.abc import Collection, Mapping

from core.archive_listing import Entry, listing_lines, parse_listing
from core.manifest import Record
from core.restore_record import Skipped

_ENTRY = re.compile(r"(\d+); ")
_DEPENDS = re.compile(r";\s+depends on:((?: \d+)+)\s*")
# What pg_restore sees to itself, listed or not, or (DATABASE) only with --create.
_NOT_LISTED = frozenset({"DATABASE", "DATABASE PROPERTIES", "ENCODING", "SEARCHPATH", "STDSTRINGS"})


class Listed(Record):
    """An archive's table of contents. `depends_on` is by dump id; what an entry without dependencies has is not in it."""

    entries: tuple[Entry, ...]
    depends_on: dict[int, tuple[int, ...]]


class Choice(Record):
    """What to restore: `list_text` is the list file, `data` are the dump ids of the tables' rows in it; `skipped` is what is missing that one would expect; `notes` are
    for the report."""

    list_text: str
    entries: int
    data: tuple[int, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def parse_contents(verbose_listing: str) -> Listed:
    """Given what `pg_restore --list --verbose` printed, return it. Raise ValueError for a line that is not understood."""
    depends_on: dict[int, tuple[int, ...]] = {}
    last: int | None = None
    for line in listing_lines(verbose_listing):
        if match := _ENTRY.match(line):
            last = int(match[1])
        elif (match := _DEPENDS.fullmatch(line)) and last is not None:
            depends_on[last] = tuple(int(number) for number in match[1].split())
    entries = tuple(entry for entry in parse_listing(verbose_listing) if entry.kind not in _NOT_LISTED)
    return Listed(entries=entries, depends_on=depends_on)


def choose_all(listed: Listed, *, missing_extensions: Collection[str] = ()) -> Choice:
    """Given the contents, and the extensions that the server lacks and that are to be skipped, return the choice of everything else.

    With an extension goes all that cannot be without it: what depends on it, and on that, and so on.
    """
    return choice_of(listed, without_extensions(listed, missing_extensions))


def choice_of(listed: Listed, skipped: Mapping[int, str], silent: Collection[int] = ()) -> Choice:
    """Given the contents, what is left out and why, by dump id, and what is left out without a word, return the choice of the rest."""
    kept = [entry for entry in listed.entries if entry.dump_id not in skipped and entry.dump_id not in silent]
    return Choice(
        list_text="".join(f"{entry.dump_id};\n" for entry in kept),
        entries=len(kept),
        data=tuple(entry.dump_id for entry in kept if entry.kind == "TABLE DATA"),
        skipped=tuple(
            Skipped(entry=called(entry), why=skipped[entry.dump_id])
            for entry in listed.entries
            if entry.dump_id in skipped
        ),
    )


def called(entry: Entry) -> str:
    """What messages call an entry."""
    return f"{entry.kind} {entry.words}".strip()


def without_extensions(listed: Listed, missing: Collection[str]) -> dict[int, str]:
    """Given the contents and the extensions that are missing, return what goes with them and why, by dump id."""
    name_of: dict[int, str] = {}
    for entry in listed.entries:
        if entry.kind == "EXTENSION" and (name := entry.words.removeprefix("- ").strip()) in missing:
            name_of[entry.dump_id] = name
    reasons = {number: f"the server has no extension {name}" for number, name in name_of.items()}
    # Dependencies may point forwards in the list, so once through it is not enough.
    before = -1
    while len(name_of) != before:
        before = len(name_of)
        for entry in listed.entries:
            needs = next((number for number in listed.depends_on.get(entry.dump_id, ()) if number in name_of), None)
            if needs is not None and entry.dump_id not in name_of:
                name_of[entry.dump_id] = name_of[needs]
                reasons[entry.dump_id] = f"it needs the extension {name_of[needs]}"
    return reasons
