"""The coordinator: one session that locks every dumped table, then takes the snapshot that dump and digests share, and keeps both to the end.

Locks come first. A REPEATABLE READ transaction's snapshot is taken by its first query, and LOCK TABLE is none; so whatever a TRUNCATE, ALTER or DROP had done is either
wholly visible in the snapshot or waits until the backup is finished. The other way round a TRUNCATE between snapshot and pg_dump's own lock dumps an empty table.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import psycopg
from psycopg import sql
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.inventory import Inventory
from core.manifest import Server
from tasks.database_properties import read_server
from tasks.inventory import batches, read_excluded_schemas, read_inventory
from tasks.inventory_tables import Relation, read_relations
from tasks.postgres import Connection, connect, describe, pin_session, translate, translated

# "nsbk" as a number: with the database's oid it names the lock that keeps a second backup of this database away.
ADVISORY_CLASS = 0x6E73626B
LOCK_BATCH = 500
_ATTEMPTS = 5

# What the server says when something was dropped while it was looked at: no such table, schema or object; "cache lookup failed" (internal error).
_VANISHED = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.UndefinedObject,
    psycopg.errors.InternalError_,
)

PausePoint = Callable[[str], None]


class _ListChanged(Exception):  # noqa: N818 - never leaves this module
    """A table was made, dropped or renamed between the list and the snapshot."""


@dataclass
class HeldSnapshot:
    """The snapshot while it is held. `name` is for SET TRANSACTION SNAPSHOT and pg_dump --snapshot; `time` (UTC) is not later than the snapshot."""

    name: str
    time: datetime
    server: Server
    inventory: Inventory
    connection: Connection
    on: str

    def check(self) -> None:
        """Raise TemporaryError when the session, and with it the snapshot, is lost."""
        with translated("keep the snapshot", self.on):
            self.connection.execute("SELECT 1")


def _no_pause(_point: str) -> None:
    """Tests stop here to let another session interfere."""


@contextmanager
def hold_snapshot(database: Database, *, backup_key: str, pause: PausePoint = _no_pause) -> Iterator[HeldSnapshot]:
    """Given a database's record and a name for the backup (seen in pg_stat_activity), hold locks and a snapshot while the block runs.

    Raise PermanentError when another backup of this database runs or the role may not read a table, TemporaryError when a lock is not to be had within
    `lock_timeout_seconds`, the tables keep changing, or the server is lost. `pause` is called at "listed", "locked" and "exported".
    """
    on = describe(database)
    connection = connect(database, application_name=f"nightshift {backup_key}")
    try:
        with translated("hold a snapshot", on):
            pin_session(connection, PINNED_SETTINGS)
            pin_session(connection, {"lock_timeout": f"{database.lock_timeout_seconds}s"})
            _take_turn(connection, on)
            held = _acquire(connection, database, on, pause)
        yield held
    finally:
        # Closing ends the transaction and releases every lock; a session that is lost already is no further trouble.
        connection.close()


_HOLDER = """
    SELECT a.pid, a.application_name, a.backend_start FROM pg_catalog.pg_locks AS l LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
    WHERE l.locktype = 'advisory' AND l.granted AND l.classid = %(class)s AND l.objsubid = 2
      AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
"""


def _take_turn(connection: Connection, on: str) -> None:
    """Take the advisory lock for as long as the session lives. The database's oid may exceed int4, so its bits are used."""
    row = connection.execute(
        "SELECT pg_catalog.pg_try_advisory_lock(%s::int4, oid::int8::bit(32)::int4)"
        " FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()",
        (ADVISORY_CLASS,),
    ).fetchone()
    if row is not None and row[0]:
        return
    holder = connection.execute(_HOLDER, {"class": ADVISORY_CLASS}).fetchone()
    who = (
        f"pid {holder[0]} ({holder[1]}, connected since {holder[2]:%Y-%m-%d %H:%M:%S %Z})"
        if holder
        else "another session"
    )
    raise PermanentError(
        "begin the backup",
        on,
        f"it is already being backed up by {who}",
        "Wait until that backup ends, or end its session with pg_terminate_backend.",
    )


def _acquire(connection: Connection, database: Database, on: str, pause: PausePoint) -> HeldSnapshot:
    retrying = Retrying(
        stop=stop_after_attempt(_ATTEMPTS),
        retry=retry_if_exception_type(_ListChanged),
        wait=wait_random(0.05, 0.5),
        reraise=True,
    )
    try:
        return retrying(_attempt, connection, database, on, pause)
    except _ListChanged as error:
        raise TemporaryError(
            "take the snapshot",
            on,
            f"tables changed at each of {_ATTEMPTS} attempts, last: {error}",
            "Is a migration running?",
        ) from error


def _attempt(connection: Connection, database: Database, on: str, pause: PausePoint) -> HeldSnapshot:
    exclude = read_excluded_schemas(connection, database)
    listed = read_relations(connection, exclude)
    pause("listed")
    try:
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        _lock(connection, listed, on)
        pause("locked")
        row = connection.execute("SELECT pg_catalog.pg_export_snapshot(), pg_catalog.statement_timestamp()").fetchone()
        assert row is not None  # noqa: S101 - for the type checker: a SELECT without FROM has one row
        name, time = row
        server = read_server(connection, database)
        pause("exported")
        seen = read_relations(connection, exclude)
        _refuse_change(connection, listed, seen, read_excluded_schemas(connection, database) != exclude)
        inventory = read_inventory(connection, database, seen, exclude, in_recovery=server.in_recovery)
    except _VANISHED as error:
        connection.execute("ROLLBACK")
        raise _ListChanged(error.diag.message_primary) from error
    except _ListChanged:
        connection.execute("ROLLBACK")
        raise
    return HeldSnapshot(name, time.astimezone(UTC), server, inventory, connection, on)


def _lock(connection: Connection, relations: Sequence[Relation], on: str) -> None:
    for batch in batches(relations, LOCK_BATCH):
        try:
            connection.execute(lock_statement([(relation.schema_name, relation.name) for relation in batch]))
        except psycopg.errors.LockNotAvailable as error:
            connection.execute("ROLLBACK")
            raise lock_error(connection, error, [relation.oid for relation in batch], on) from error


def lock_statement(tables: Sequence[tuple[str, str]]) -> sql.Composed:
    """Given tables as (schema, name), return the statement that locks them as a dump does."""
    names = sql.SQL(", ").join(sql.SQL("ONLY {}").format(sql.Identifier(*table)) for table in tables)
    return sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(names)


def lock_error(connection: Connection, error: psycopg.Error, oids: Sequence[int], on: str) -> NightshiftError:
    """Given a session (outside a transaction), a lock time-out and the tables that were to be locked, return the error that names who is in the way."""
    rows = connection.execute(
        "SELECT l.relation::regclass::text, l.pid, l.granted, pg_catalog.left(a.query, 80) FROM pg_catalog.pg_locks AS l"
        " LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid"
        " WHERE l.relation = ANY (%s) AND l.mode = 'AccessExclusiveLock' AND l.locktype = 'relation'"
        " AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())"
        " ORDER BY l.granted DESC LIMIT 3",
        (list(oids),),
    ).fetchall()
    if not rows:
        return translate(error, "lock the tables", on)
    holders = "; ".join(
        f"{table} is {'held' if granted else 'waited for'} by pid {pid}: {query}" for table, pid, granted, query in rows
    )
    return TemporaryError("lock the tables", on, f"lock time-out; {holders}", "Let that session finish, or end it.")


def _refuse_change(
    connection: Connection, listed: Sequence[Relation], seen: Sequence[Relation], schemas_changed: bool
) -> None:
    """Raise _ListChanged unless the tables seen in the snapshot are those locked, under the same names, and none was rewritten since the snapshot."""

    def names(relations: Sequence[Relation]) -> set[tuple[int, str, str, str]]:
        return {(relation.oid, relation.schema_name, relation.name, relation.kind) for relation in relations}

    if changed := names(listed) ^ names(seen):
        raise _ListChanged(", ".join(sorted({f"{schema}.{name}" for _oid, schema, name, _kind in changed})[:5]))
    if schemas_changed:
        raise _ListChanged("a schema")
    # The catalogue as the snapshot sees it against the file that is there now: proof that the locks hold what the snapshot saw.
    rewritten = connection.execute(
        "SELECT c.oid::regclass::text FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (%s) AND c.relfilenode <> 0"
        " AND pg_catalog.pg_relation_filenode(c.oid) IS DISTINCT FROM c.relfilenode::oid LIMIT 5",
        ([relation.oid for relation in seen],),
    ).fetchall()
    if rewritten:
        raise _ListChanged(", ".join(row[0] for row in rewritten))
