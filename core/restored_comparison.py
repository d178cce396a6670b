"""What a restored copy has against what the manifest recorded: tables, sequences and large objects, and what the whole comparison comes to.

The database around them (properties, roles, extensions, collations) is compared in core.restored_surroundings, contents in core.digest_comparison.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Literal

from core.archive_listing import as_printed
from core.compared_tables import ComparedTables
from core.digest_comparison import Difference
from core.manifest import LargeObjects, Manifest, Record, Size, Table
from core.manifest import Sequence as SequenceState
from core.restore_record import Restored

Severity = Literal["mismatch", "environment", "note"]
Kind = Literal[
    "tables",
    "large objects",
    "sequences",
    "properties",
    "roles",
    "extensions",
    "collations",
    "schema",
    "coverage",
    "indexes",
    "b-trees",
    "pages",
    "constraints",
    "privileges",
    "objects",
    "not looked at",
]
Name = tuple[str, str]


class ComparisonFinding(Record):
    """Something that a restored copy was found to be or to lack.

    `mismatch`: the copy is not what was backed up. `environment`: the server lacks or does something otherwise (a role's attributes, a version), explained.
    `note`: to be known. The kind `not looked at` is something that the role may not read: no mismatch was seen, and none can be excluded.
    """

    kind: Kind
    severity: Severity
    text: str


class Verification(Record):
    """A restored copy compared with its manifest. `rows` is how many rows of the copy were counted; `differences` are tables whose rows or digest differ;
    `compared` tells by what its tables were compared."""

    tables_compared: Size
    rows: Size
    differences: tuple[Difference, ...] = ()
    findings: tuple[ComparisonFinding, ...] = ()
    compared: ComparedTables = ComparedTables()

    @property
    def matches(self) -> bool:
        """Whether all that was to be compared was looked at and nothing differs. What is the environment's doing, and explained, does not count."""
        return not self.mismatches and not self.unseen

    @property
    def mismatches(self) -> tuple[str, ...]:
        """What is not as it was recorded, a sentence each: this is what speaks against the backup."""
        differing = (f"{one.name} differs" for one in self.differences)
        return (*differing, *(one.text for one in self.findings if one.severity == "mismatch"))

    @property
    def damage(self) -> tuple[str, ...]:
        """The same without damaged b-trees and pages: a dump holds neither, so they are the copy's server's, and no reason to call the backup's own data damaged."""
        built = {one.text for one in self.findings if one.kind in {"b-trees", "pages"}}
        return tuple(text for text in self.mismatches if text not in built)

    @property
    def unseen(self) -> tuple[str, ...]:
        """What could not be looked at, a sentence each: it speaks neither for the backup nor against it."""
        return tuple(one.text for one in self.findings if one.kind == "not looked at")


class CopiedTable(Record):
    """A plain table of the copy. `columns` are (name, type) of those that hold data; `of_extension`: a member of an extension."""

    schema_name: str
    name: str
    owner: str
    persistence: Literal["permanent", "unlogged"]
    columns: tuple[tuple[str, str], ...]
    of_extension: bool

    @property
    def qualified(self) -> str:
        """Schema and name with a dot between, for people."""
        return f"{self.schema_name}.{self.name}"


def expected_tables(
    manifest: Manifest, restored: Restored, chosen: Collection[Name] | None = None
) -> tuple[Table, ...]:
    """Given a manifest, what was restored of it and the tables chosen as (schema, name) (None: all), return the tables that must be as recorded.

    Left out are those whose data the restore skipped. Tables that are loaded through one root come together: all are meant when one is.
    """
    skipped = _Skipped(restored)
    routes = {table.routed_through for table in manifest.tables if chosen is not None and _name(table) in chosen}
    return tuple(
        table
        for table in manifest.tables
        if (
            chosen is None
            or _name(table) in chosen
            or (table.routed_through is not None and table.routed_through in routes)
        )
        and not skipped.holds("TABLE DATA", table.schema_name, table.name, table.owner)
        and not skipped.holds("TABLE", table.schema_name, table.name, table.owner)
    )


def compare_tables(
    tables: Iterable[Table], recorded: Iterable[Table], found: Iterable[CopiedTable], *, in_recovery: bool
) -> tuple[ComparisonFinding, ...]:
    """Given the tables that must be there, all that were recorded and the copy's, return what differs in names, owners, persistence and columns.

    `in_recovery`: the dump was taken from a standby, which has no unlogged tables to record.
    """
    copies = {(copy.schema_name, copy.name): copy for copy in found}
    findings = [text for table in tables for text in _table_differences(table, copies.get(_name(table)))]
    known = {_name(table) for table in recorded}
    findings += [
        f"table {copy.qualified} is in the copy and was not in the snapshot"
        for name, copy in copies.items()
        if name not in known and not copy.of_extension and not (in_recovery and copy.persistence == "unlogged")
    ]
    return tuple(ComparisonFinding(kind="tables", severity="mismatch", text=text) for text in findings)


def _name(table: Table) -> Name:
    return table.schema_name, table.name


def _table_differences(table: Table, copy: CopiedTable | None) -> Iterable[str]:
    if copy is None:
        yield f"table {table.qualified} is missing"
        return
    if copy.owner != table.owner:
        yield f"table {table.qualified} is owned by {copy.owner}, not by {table.owner}"
    if copy.persistence != table.persistence:
        yield f"table {table.qualified} is {copy.persistence}, not {table.persistence}"
    # In the table's own order, which is the manifest's but for tables that are loaded through their root.
    expected = [(column.name, column.type) for column in table.columns]
    if sorted(expected) != sorted(copy.columns):
        changed = sorted({name for name, _type in set(expected) ^ set(copy.columns)})
        yield f"table {table.qualified} has other columns: {', '.join(changed)}"


def not_compared(tables: Iterable[Table]) -> tuple[ComparisonFinding, ...]:
    """Given the tables that must be as recorded, name those whose content nobody compares, because the environment asks for no digest of them."""
    by_mode: dict[str, list[str]] = {"off": [], "counts": []}
    for table in tables:
        if table.mode in by_mode:
            by_mode[table.mode].append(table.qualified)
    told = {
        "off": "neither rows nor content were compared",
        "counts": "rows were counted, the content was not compared",
    }
    return tuple(
        ComparisonFinding(
            kind="tables",
            severity="environment",
            text=f"of {len(names)} {'table' if len(names) == 1 else 'tables'} {told[mode]} (digests = {mode}): {', '.join(sorted(names)[:10])}"
            + (f" and {len(names) - 10} more" if len(names) > 10 else ""),
        )
        for mode, names in by_mode.items()
        if names
    )


def compare_sequences(
    expected: Iterable[SequenceState], found: Mapping[Name, SequenceState], restored: Restored
) -> tuple[ComparisonFinding, ...]:
    """Given the sequences as recorded and as found by (schema, name), return those that are missing, count otherwise or are behind.

    Sequences are not transactional: the dump may have read a later state than the snapshot's, so at or beyond is right, in the sequence's direction.
    """
    skipped, findings = _Skipped(restored), []
    for sequence in expected:
        name = f"sequence {sequence.schema_name}.{sequence.name}"
        copy = found.get((sequence.schema_name, sequence.name))
        if copy is None:
            lost = skipped.holds("SEQUENCE", sequence.schema_name, sequence.name)
            findings.append((lost, f"{name} is missing"))
        elif copy.increment != sequence.increment:
            findings.append((False, f"{name} counts by {copy.increment}, not by {sequence.increment}"))
        elif is_behind(copy, sequence):
            unset = skipped.holds("SEQUENCE SET", sequence.schema_name, sequence.name)
            findings.append((unset, f"{name} is behind: at {_position(copy)}, the snapshot's at {_position(sequence)}"))
    return tuple(
        ComparisonFinding(
            kind="sequences",
            severity="environment" if explained else "mismatch",
            text=f"{text} (its entry was skipped)" if explained else text,
        )
        for explained, text in findings
    )


def is_behind(found: SequenceState, expected: SequenceState) -> bool:
    """Given a sequence as found and as recorded, return whether it would give a value again that was given already."""
    if found.last_value == expected.last_value:
        return expected.is_called and not found.is_called
    return (found.last_value < expected.last_value) == (expected.increment > 0)


def _position(sequence: SequenceState) -> str:
    return f"{sequence.last_value}{'' if sequence.is_called else ' (not yet given)'}"


def compare_large_objects(expected: LargeObjects, found: LargeObjects) -> tuple[ComparisonFinding, ...]:
    """Given the large objects as recorded and as found, return what differs: count, bytes, and the digest if one was recorded."""
    pairs = [
        ("number", expected.count, found.count),
        ("bytes", expected.content_bytes, found.content_bytes),
        ("digest", expected.digest, found.digest if expected.digest is not None else None),
    ]
    return tuple(
        ComparisonFinding(
            kind="large objects", severity="mismatch", text=f"large objects: {what} is {copy}, {recorded} was recorded"
        )
        for what, recorded, copy in pairs
        if recorded != copy
    )


class _Skipped:
    """The entries that a restore left out, to be looked up by their words in `pg_restore --list`."""

    def __init__(self, restored: Restored) -> None:
        self._entries = [f" {skipped.entry.strip()}" for skipped in restored.skipped]

    def holds(self, kind: str, schema_name: str, name: str, owner: str = "") -> bool:
        """Whether an entry of this kind and name was left out. With its owner to the last word, so that `a` is not taken for `a b`."""
        words = as_printed(f" {kind} {schema_name} {name}")
        ends = (words, as_printed(f"{words} {owner}"))
        return any(entry.endswith(ends) if owner else f"{words} " in f"{entry} " for entry in self._entries)
