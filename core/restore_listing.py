"""Which entries of a dump are restored: the list file for `pg_restore -L`, and what is left out and why.

Read from `pg_restore --list --verbose`, which also prints what each entry depends on (PrintTOCSummary, src/bin/pg_dump/pg_backup_archiver.c). A line of a list
file counts by the number at its beginning alone (SortTocFromFile, there). Entries are matched by oid or by dependency; words, whose borders a blank in a name
hides, only where nothing else tells.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from core.archive_listing import Entry, parse_listing
from core.manifest import Record, Table
from core.restore_record import Skipped

_ENTRY = re.compile(r"(\d+); ")
_DEPENDS = re.compile(r";\s+depends on:((?: \d+)+)\s*")
# What pg_restore sees to itself, listed or not, or (DATABASE) only with --create.
_NOT_LISTED = frozenset({"DATABASE", "DATABASE PROPERTIES", "ENCODING", "SEARCHPATH", "STDSTRINGS"})
# Come after the data and belong to one table each (SECTION_POST_DATA, pg_dump.c); a rule may be a view's, and then is kept.
_POST_DATA = frozenset(
    {
        "CHECK CONSTRAINT",
        "CONSTRAINT",
        "FK CONSTRAINT",
        "INDEX",
        "INDEX ATTACH",
        "POLICY",
        "ROW SECURITY",
        "RULE",
        "STATISTICS",
        "STATISTICS DATA",
        "TRIGGER",
    }
)
_LARGE_OBJECTS = frozenset({"BLOB", "BLOB METADATA", "BLOBS", "BLOB COMMENTS"})
# Say something about another entry and go with it.
_ATTACHED = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})


class Listed(Record):
    """An archive's table of contents. `depends_on` is by dump id; what an entry without dependencies has is not in it."""

    entries: tuple[Entry, ...]
    depends_on: dict[int, tuple[int, ...]]


class Choice(Record):
    """What to restore: `list_text` is the list file; `skipped` is what is missing that one would expect; `notes` are for the report."""

    list_text: str
    entries: int
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()


def parse_contents(verbose_listing: str) -> Listed:
    """Given what `pg_restore --list --verbose` printed, return it. Raise ValueError for a line that is not understood."""
    depends_on: dict[int, tuple[int, ...]] = {}
    last: int | None = None
    for line in verbose_listing.splitlines():
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
    return _choice(listed, _with_extensions(listed, missing_extensions))


def choose_tables(
    listed: Listed, tables: Sequence[Table], patterns: Sequence[str], *, missing_extensions: Collection[str] = ()
) -> Choice:
    """Given the contents, the manifest's tables, and `schema.table` or `schema.*`, return the choice of these tables alone.

    All that comes before data is restored; the chosen tables' rows, their sequences (owned, of identity columns, or named in a default) and what comes after
    data on them and on the other partitions of their partitioned table. Left out and named: foreign keys to tables whose rows are not here, materialized views
    over such.
    Large objects are left out. Raise ValueError when a pattern chooses nothing, or when names with blanks make it ambiguous.
    """
    partial = _Partial(listed, tables, patterns)
    skipped = _with_extensions(listed, missing_extensions) | partial.skipped
    choice = _choice(listed, skipped, partial.silent)
    return choice.model_copy(update={"notes": (*partial.notes, *choice.notes)})


def chosen_tables(listed: Listed, tables: Sequence[Table], patterns: Sequence[str]) -> tuple[Table, ...]:
    """As `choose_tables`, but return the manifest's tables whose rows are restored, in its order."""
    chosen = _Partial(listed, tables, patterns).chosen_oids
    return tuple(table for table in tables if table.oid in chosen)


def _choice(listed: Listed, skipped: Mapping[int, str], silent: Collection[int] = ()) -> Choice:
    kept = [entry for entry in listed.entries if entry.dump_id not in skipped and entry.dump_id not in silent]
    return Choice(
        list_text="".join(f"{entry.dump_id};\n" for entry in kept),
        entries=len(kept),
        skipped=tuple(
            Skipped(entry=_called(entry), why=skipped[entry.dump_id])
            for entry in listed.entries
            if entry.dump_id in skipped
        ),
    )


def _called(entry: Entry) -> str:
    return f"{entry.kind} {entry.words}".strip()


def _with_extensions(listed: Listed, missing: Collection[str]) -> dict[int, str]:
    """What goes with the missing extensions, and why."""
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


class _Partial:
    """The choice of some tables. `skipped` is named, `silent` is not: it is what nobody asked for."""

    def __init__(self, listed: Listed, tables: Sequence[Table], patterns: Sequence[str]) -> None:
        self._listed, self._patterns = listed, patterns
        self._by_id = {entry.dump_id: entry for entry in listed.entries}
        self._data = {entry.oid: entry for entry in listed.entries if entry.kind == "TABLE DATA"}
        self._tables = {entry.oid: entry for entry in listed.entries if entry.kind in {"TABLE", "FOREIGN TABLE"}}
        self._parents = self._partition_parents()
        self.chosen_oids = self._choose(tables, patterns)
        self._absent = self._without_rows()
        self._concerned = self._same_trees()
        self.skipped: dict[int, str] = {}
        self.silent: set[int] = set()
        self._leave_out()
        counted = len(self.chosen_oids)
        self.notes = (f"rows of {counted} of {len(self._data)} tables were restored: {', '.join(patterns)}",)

    def _needs(self, entry: Entry) -> Iterator[Entry]:
        for number in self._listed.depends_on.get(entry.dump_id, ()):
            if number in self._by_id:
                yield self._by_id[number]

    def _partition_parents(self) -> dict[int, set[int]]:
        """The dump ids of the partitioned tables that each table (by dump id) is attached to."""
        parents: dict[int, set[int]] = defaultdict(set)
        for entry in self._listed.entries:
            if entry.kind == "TABLE ATTACH":
                ends = [end.dump_id for end in self._needs(entry) if end.kind in {"TABLE", "FOREIGN TABLE"}]
                child = [end for end in ends if self._by_id[end].words == entry.words]
                if len(child) != 1 or len(ends) != 2:
                    raise ValueError(f"which table is the partition is not clear: {_called(entry)}")
                parents[child[0]].update(end for end in ends if end != child[0])
        return parents

    def _choose(self, tables: Sequence[Table], patterns: Sequence[str]) -> set[int]:
        chosen: set[int] = set()
        for pattern in patterns:
            found = self._matching(tables, pattern)
            if not found:
                raise ValueError(f"no table with rows in this backup is called {pattern!r}")
            chosen |= found
        # pg_dump writes these through their partitioned table: which partition a row goes to is known only at the restore.
        routed = {table.routed_through for table in tables if table.oid in chosen} - {None}
        chosen |= {table.oid for table in tables if table.routed_through in routed and table.oid in self._data}
        return chosen

    def _matching(self, tables: Sequence[Table], pattern: str) -> set[int]:
        schema = pattern.removesuffix(".*")
        if schema != pattern:
            found = {table.oid for table in tables if table.schema_name == schema}
        else:
            found = {table.oid for table in tables if table.qualified == pattern}
            named = {(table.schema_name, table.name) for table in tables if table.oid in found}
            if len(named) > 1:
                raise ValueError(f"{pattern!r} can mean {len(named)} tables, since a name holds a dot")
            found |= self._of_partitioned(pattern)
        return found & self._data.keys()

    def _of_partitioned(self, pattern: str) -> set[int]:
        """The tables below a partitioned table of this name, which has no rows of its own and so is not in the manifest."""
        begins = pattern.replace(".", " ", 1) + " "
        partitioned = {number for parents in self._parents.values() for number in parents}
        roots = [number for number in partitioned if self._by_id[number].words.startswith(begins)]
        if len(roots) > 1:
            raise ValueError(f"{pattern!r} can mean {len(roots)} partitioned tables, since a name holds a blank")
        return {oid for oid, table in self._tables.items() if roots and roots[0] in self._ancestors(table.dump_id)}

    def _ancestors(self, number: int) -> set[int]:
        found: set[int] = set()
        waiting = [number]
        while waiting:
            for parent in self._parents.get(waiting.pop(), ()):
                if parent not in found:
                    found.add(parent)
                    waiting.append(parent)
        return found

    def _without_rows(self) -> set[int]:
        """Dump ids of tables that would hold rows and do not, or not all of them."""
        absent: set[int] = set()
        for oid in self._data.keys() - self.chosen_oids:
            if oid in self._tables:
                absent |= {self._tables[oid].dump_id, *self._ancestors(self._tables[oid].dump_id)}
        return absent

    def _same_trees(self) -> set[int]:
        """Dump ids of the chosen tables, of the tables that they are partitions of, and of the other partitions: an index is valid when all have it."""
        concerned: set[int] = set()
        for oid in self.chosen_oids & self._tables.keys():
            number = self._tables[oid].dump_id
            concerned |= {number, *self._ancestors(number)}
        parents = {number for number in concerned if any(number in above for above in self._parents.values())}
        concerned |= {number for number in self._parents if self._ancestors(number) & parents}
        return concerned

    def _leave_out(self) -> None:
        sequences = self._sequences()
        wanted: set[int] = set()
        for entry in self._listed.entries:
            number = entry.dump_id
            if (
                (entry.kind == "TABLE DATA" and entry.oid not in self.chosen_oids)
                or (entry.kind == "SEQUENCE SET" and not sequences & {need.dump_id for need in self._needs(entry)})
                or entry.kind in _LARGE_OBJECTS
                or (entry.kind in _POST_DATA and not self._wanted(entry))
            ):
                self.silent.add(number)
            elif entry.kind == "MATERIALIZED VIEW DATA" and self._reaches_absent(entry):
                self.skipped[number] = "rows of a table that it reads are not restored"
            else:
                wanted.add(number)
        self._bring_back(wanted)
        self._leave_out_attached()

    def _wanted(self, entry: Entry) -> bool:
        tables = {need.dump_id for need in self._tables_of(entry)}
        # A key, trigger, policy or rule may look at other tables than its own, which its words begin with.
        own = {number for number in tables if entry.words.startswith(self._qualified(number))}
        if not own and (not tables or entry.kind == "RULE"):
            return True
        own = own or tables
        if not own & self._concerned:
            return False
        # A key to itself has one table only; rows of a partitioned table's other partitions may refer to rows that are not there.
        absent = sorted((tables - own or own) & self._absent) if entry.kind == "FK CONSTRAINT" else []
        if absent:
            name = self._qualified(absent[0]).strip().replace(" ", ".", 1)
            self.skipped[entry.dump_id] = f"rows of {name} are not restored"
        return True

    def _tables_of(self, entry: Entry) -> Iterator[Entry]:
        """The tables that an entry after the data is on: those it depends on, or that the indexes it attaches are on."""
        for need in self._needs(entry):
            if need.kind in {"TABLE", "FOREIGN TABLE"}:
                yield need
            elif entry.kind in {"INDEX ATTACH", "STATISTICS DATA"} and need.kind in {"INDEX", "CONSTRAINT"}:
                yield from self._tables_of(need)

    def _qualified(self, number: int) -> str:
        """`schema name ` of a table as the list prints it, without the owner."""
        return self._by_id[number].words.rpartition(" ")[0] + " "

    def _sequences(self) -> set[int]:
        """Dump ids of the sequences that the chosen tables own, have for an identity column or draw a default from, and of the chosen schemas."""
        schemas = tuple(pattern.removesuffix(".*") + " " for pattern in self._patterns if pattern.endswith(".*"))
        chosen = {self._tables[oid].dump_id for oid in self.chosen_oids & self._tables.keys()}
        chosen |= {above for number in chosen for above in self._ancestors(number)}
        found: set[int] = set()
        for entry in self._listed.entries:
            needs = list(self._needs(entry))
            numbers = {need.dump_id for need in needs}
            if entry.kind == "SEQUENCE" and (numbers & chosen or entry.words.startswith(schemas)):
                found.add(entry.dump_id)
            elif (entry.kind in {"DEFAULT", "SEQUENCE OWNED BY"} and numbers & chosen) or entry.dump_id in chosen:
                found |= {need.dump_id for need in needs if need.kind == "SEQUENCE"}
        return found

    def _reaches_absent(self, entry: Entry) -> bool:
        return any(number in self._absent for number in self._closure([entry.dump_id]))

    def _closure(self, numbers: Iterable[int], through: Callable[[Entry], bool] = lambda _entry: True) -> set[int]:
        found: set[int] = set()
        waiting = list(numbers)
        while waiting:
            for need in self._needs(self._by_id[waiting.pop()]):
                if need.dump_id not in found and through(need):
                    found.add(need.dump_id)
                    waiting.append(need.dump_id)
        return found

    def _bring_back(self, wanted: set[int]) -> None:
        """A view may group by another table's primary key: what is restored brings along what it depends on."""
        kept = [number for number in wanted if number not in self.skipped and self._by_id[number].kind not in _ATTACHED]
        self.silent -= self._closure(kept, lambda need: need.kind in _POST_DATA and need.dump_id not in self.skipped)

    def _leave_out_attached(self) -> None:
        out = self.silent | self.skipped.keys()
        for entry in self._listed.entries:
            if entry.kind in _ATTACHED and out & set(self._listed.depends_on.get(entry.dump_id, ())):
                self.silent.add(entry.dump_id)
