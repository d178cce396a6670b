"""Negative controls of a restored copy: a table is damaged, digested again by the verification's own functions, and put back. Nothing is ever committed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, LiteralString

import psycopg
from psycopg.rows import dict_row

from core import digest_comparison
from core.digest_comparison import Counted
from core.environment_database import Database
from core.manifest import Manifest, Table
from core.negative_controls import (
    Change,
    Duplicate,
    Exchange,
    Place,
    Row,
    can_be_damaged,
    changes,
    duplicates,
    exchanges,
    order_of_places,
    page_of,
    removal_of_keys,
    removal_of_obstacles,
    sample_sql,
)
from core.restore_record import Control, Restored
from tasks.digests import digest_table
from tasks.postgres import Connection, describe, translate, translated
from tasks.restored_session import open_copy

ControlName = Literal["value changed", "values exchanged", "row duplicated"]
Damage = Change | Exchange | Duplicate

# As many tables as this are tried until one can be damaged.
_MAXIMUM_TABLES = 60
_LOCK_SECONDS = 30


def database_controls(
    database: Database, manifest: Manifest, *, rotation: int, restored: Restored
) -> tuple[Control, ...]:
    """Given a scratch copy that matches its manifest, damage it in three ways, each in another table, and return whether each was seen by the digests.

    One transaction with session_replication_role=replica (no ordinary triggers or rules, no foreign keys), rolled back at its end; needs a superuser.
    `rotation`: any number, another one each time. Raise PermanentError when the login leads to another database, TemporaryError when the server is lost.
    """
    on = describe(database)
    with open_copy(database, restored, purpose="negative controls", read_only=False) as connection:
        with translated("prepare the negative controls", on):
            is_superuser = connection.execute(
                "SELECT rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchone() == (True,)
        if not is_superuser:
            return tuple(_not_tried(name, f"{database.user} is not a superuser") for name in _WAYS)
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL session_replication_role = replica")
                connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'".encode())
                places = _read_places(connection, [table for table in manifest.tables if can_be_damaged(table)])
                bench = _Bench(connection, manifest.tables, on)
                return tuple(
                    bench.control(name, order_of_places(places, rotation + at), rotation)
                    for at, name in enumerate(_WAYS)
                )
        except psycopg.Error as error:
            raise translate(error, "try the negative controls", on) from error


def _not_tried(name: ControlName, why: str) -> Control:
    return Control(name=name, on="no table", detected=False, how=f"no table could be damaged: {why}", tried=False)


@dataclass
class _Bench:
    """The transaction in which tables are damaged. `before` keeps what the undamaged ones were found to have."""

    connection: Connection
    tables: Sequence[Table]
    on: str
    before: dict[int, Counted] = field(default_factory=dict)

    def control(self, name: ControlName, places: Sequence[Place], rotation: int) -> Control:
        """Try the tables in their order until one took the damage; say whether it was seen."""
        why = "none has rows, and a digest that would tell"
        for place in places[:_MAXIMUM_TABLES]:
            outcome = self._on_table(name, place, rotation)
            if isinstance(outcome, Control):
                return outcome
            why = f"{place.table.qualified}: {outcome}"
        return _not_tried(name, why)

    def _on_table(self, name: ControlName, place: Place, rotation: int) -> Control | str:
        """Damage this table in the first way that it allows. Return the control, or why there is none."""
        members = self._members(place.table)
        try:
            with self.connection.transaction():
                rows = self._sample(place, rotation)
                self._count(members)
        except psycopg.Error as error:
            return self._refusal(error)
        if digest_comparison.differences(members, self.before):
            return "it differs from the manifest before it is damaged"
        ways, apply = _WAYS[name]
        why = "its rows are equal, or there are too few"
        for damage in ways(place, rows, rotation):
            try:
                with self.connection.transaction(force_rollback=True):
                    if apply(self.connection, place, damage):
                        return self._judge(name, place, damage, members)
                why = "a rule or trigger of its own undid the damage"
            except psycopg.Error as error:
                why = self._refusal(error)
        return why

    def _members(self, table: Table) -> tuple[Table, ...]:
        """The table, and those that are compared together with it."""
        if table.routed_through is None:
            return (table,)
        return tuple(other for other in self.tables if other.routed_through == table.routed_through)

    def _sample(self, place: Place, rotation: int) -> list[Row]:
        page = page_of(place, rotation)
        rows = self._rows(place, page)
        return rows if len(rows) > 1 or not page else self._rows(place, 0)

    def _rows(self, place: Place, page: int) -> list[Row]:
        found = self.connection.execute(sample_sql(place, page).encode())
        return [Row(address=address, values=values) for address, values in found]

    def _count(self, members: Iterable[Table]) -> None:
        for table in members:
            if table.oid not in self.before:
                self.before[table.oid] = digest_table(self.connection, table)

    def _judge(self, name: ControlName, place: Place, damage: Damage, members: Sequence[Table]) -> Control:
        after = {table.oid: digest_table(self.connection, table) for table in members}
        seen = digest_comparison.differences(members, after)
        found = self._sum(after, members)
        told = f"{_what(damage)}: the digest went from {self._sum(self.before, members)} to {found}"
        return Control(name=name, on=place.table.qualified, detected=bool(seen), how=told)

    @staticmethod
    def _sum(counted: Mapping[int, Counted], members: Iterable[Table]) -> str:
        return " + ".join(str(counted[table.oid][1]) for table in members)

    def _refusal(self, error: psycopg.Error) -> str:
        """Why the server did not take a statement. Raise our error when it is the server that fails, not the table that refuses."""
        meaning = translate(error, "damage a table on purpose", self.on)
        if self.connection.closed or error.sqlstate is None or error.sqlstate[:2] in _SERVER_FAILS:
            raise meaning from error
        return meaning.found


# SQLSTATE classes: connection lost, no resources (disk full), operator's intervention, system error. All else is a table's own answer.
_SERVER_FAILS = frozenset({"08", "53", "57", "58"})


def _what(damage: Damage) -> str:
    if isinstance(damage, Change):
        return f"column {damage.column} of the row at {damage.row.address}"
    if isinstance(damage, Exchange):
        return f"column {damage.column} of the rows at {damage.one.address} and {damage.other.address}"
    return f"the row at {damage.gone.address} made a second one of that at {damage.copied.address}"


def _change(connection: Connection, place: Place, change: Change) -> bool:
    _run(connection, removal_of_obstacles(place))
    return [row[0] != change.before for row in connection.execute(change.sql.encode())] == [True]


def _exchange(connection: Connection, place: Place, exchange: Exchange) -> bool:
    _run(connection, removal_of_obstacles(place))
    found = [row[0] for row in connection.execute(exchange.sql.encode())]
    return sorted(found) == sorted(exchange.hashes)


def _duplicate(connection: Connection, place: Place, duplicate: Duplicate) -> bool:
    _run(connection, removal_of_obstacles(place))
    deleted = connection.execute(duplicate.delete.encode()).rowcount
    # Keys last: with the primary key gone, a published table takes no DELETE.
    _run(connection, removal_of_keys(place))
    inserted = [tuple(row[0]) for row in connection.execute(duplicate.insert.encode())]
    return deleted == 1 and inserted == [duplicate.copied.values]


def _run(connection: Connection, statements: Iterable[str]) -> None:
    for statement in statements:
        connection.execute(statement.encode())


_Ways = Callable[[Place, Sequence[Row], int], Iterable[Any]]
_Apply = Callable[[Connection, Place, Any], bool]
_WAYS: dict[ControlName, tuple[_Ways, _Apply]] = {
    "value changed": (changes, _change),
    "values exchanged": (exchanges, _exchange),
    "row duplicated": (duplicates, _duplicate),
}

# Rules that are simply enabled do not fire in the role of a replica (manual, ALTER TABLE … ENABLE RULE); ALWAYS and REPLICA ones do.
_PLACES: LiteralString = """
    SELECT w.position, pg_table_size(c.oid) AS size_bytes,
           ARRAY(SELECT a.attname::text FROM pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '') AS writable,
           ARRAY(SELECT r.rulename::text FROM pg_rewrite AS r WHERE r.ev_class = c.oid AND r.ev_enabled IN ('A', 'R') ORDER BY 1) AS rules,
           EXISTS (SELECT FROM pg_publication) AND (c.relreplident = 'n' OR (c.relreplident = 'd' AND NOT EXISTS (
               SELECT FROM pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary))) AS lacks_identity,
           (SELECT ARRAY[pn.nspname::text, p.relname::text] FROM pg_inherits AS h JOIN pg_class AS p ON p.oid = h.inhparent
            JOIN pg_namespace AS pn ON pn.oid = p.relnamespace WHERE h.inhrelid = c.oid AND c.relispartition) AS parent,
           ARRAY(SELECT k.conname::text FROM pg_constraint AS k WHERE k.conrelid = c.oid AND k.contype IN ('p', 'u', 'x') ORDER BY 1) AS keys,
           coalesce((SELECT jsonb_agg(jsonb_build_array(ixn.nspname, ix.relname)) FROM pg_index AS i JOIN pg_class AS ix ON ix.oid = i.indexrelid
                     JOIN pg_namespace AS ixn ON ixn.oid = ix.relnamespace
                     WHERE i.indrelid = c.oid AND i.indisunique
                       AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = i.indexrelid AND k.conrelid = c.oid)), '[]') AS indexes
    FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS w (schema_name, name, position)
    JOIN pg_namespace AS n ON n.nspname = w.schema_name JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = w.name AND c.relkind = 'r'
    ORDER BY w.position
"""


def _read_places(connection: Connection, tables: Sequence[Table]) -> list[Place]:
    """What stands in the way of damaging these tables; those that are not there are left out."""
    names = [table.schema_name for table in tables], [table.name for table in tables]
    with connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(_PLACES, names).fetchall()
    return [Place(table=tables[row.pop("position") - 1], **row) for row in rows]
