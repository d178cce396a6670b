"""The choice of some tables of a dump: their rows, what comes after data on them, and what is left out, named where one would miss it.

All that comes before data is restored; see core.restore_listing for how entries are matched.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from core.archive_listing import Entry, as_printed
from core.manifest import Table
from core.restore_listing import Choice, Listed, called, choice_of, without_extensions
from core.restore_record import Skipped

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
# Types whose values are numbers of large objects: the server's own, and the domain of the extension `lo`.
_HOLDS_LARGE_OBJECTS = frozenset({"oid", "lo"})
# Say something about another entry and go with it.
_ATTACHED = frozenset({"ACL", "COMMENT", "SECURITY LABEL"})


def choose_tables(
    listed: Listed, tables: Sequence[Table], patterns: Sequence[str], *, missing_extensions: Collection[str] = ()
) -> Choice:
    """Given the contents, the manifest's tables, and `schema.table` or `schema.*`, return the choice of these tables alone.

    All that comes before data is restored; the chosen tables' rows, their sequences (owned, of identity columns, or named in a default) and what comes after
    data on them and on the other partitions of their partitioned table. Left out and named: foreign keys to tables whose rows are not here, materialized views
    over such.
    Large objects are left out, and said to be. Raise ValueError when a pattern chooses nothing, or when names with blanks make it ambiguous.
    """
    partial = _Partial(listed, tables, patterns)
    skipped = without_extensions(listed, missing_extensions) | partial.skipped
    choice = choice_of(listed, skipped, partial.silent)
    return choice.model_copy(
        update={"skipped": (*choice.skipped, *partial.lost_objects), "notes": (*partial.notes, *choice.notes)}
    )


def chosen_tables(listed: Listed, tables: Sequence[Table], patterns: Sequence[str]) -> tuple[Table, ...]:
    """As `choose_tables`, but return the manifest's tables whose rows are restored, in its order."""
    chosen = _Partial(listed, tables, patterns).chosen_oids
    return tuple(table for table in tables if table.oid in chosen)


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
        self.notes = [f"rows of {counted} of {len(self._data)} tables were restored: {', '.join(patterns)}"]
        self.lost_objects: tuple[Skipped, ...] = ()
        if any(entry.kind in _LARGE_OBJECTS for entry in listed.entries):
            self._tell_of_large_objects(tables)

    def _tell_of_large_objects(self, tables: Sequence[Table]) -> None:
        """They belong to no table; where a chosen one has a column for their numbers, they are missing, and not only left out."""
        self.notes.append("the large objects of the backup were left out: a restore of chosen tables brings none along")
        columns = [
            f"{table.qualified} ({column.name})"
            for table in tables
            if table.oid in self.chosen_oids
            for column in table.columns
            if column.type.rpartition(".")[2] in _HOLDS_LARGE_OBJECTS
        ]
        if columns:
            why = (
                f"these columns may hold numbers of some: {', '.join(columns)}; restore the whole database to have them"
            )
            self.lost_objects = (Skipped(entry="LARGE OBJECTS", why=why),)

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
                    raise ValueError(f"which table is the partition is not clear: {called(entry)}")
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
        begins = as_printed(pattern.replace(".", " ", 1)) + " "
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
        schemas = tuple(
            as_printed(pattern.removesuffix(".*")) + " " for pattern in self._patterns if pattern.endswith(".*")
        )
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
