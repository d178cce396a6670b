"""A database's state as far as migrations change it, read on a direct connection, and a migrator's lock that was left set."""

import itertools
import json
from collections.abc import Iterable
from typing import LiteralString

from psycopg import sql
from psycopg.rows import TupleRow
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.canonical import sha256_hex
from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database
from core.environment_migration import Migration
from core.errors import PermanentError
from core.migration_outcome import MigrationSession, MigrationState
from core.migration_scripts import HOLDERS
from tasks.postgres import Connection, connect, describe, pin_session, translated
from tasks.schema_fingerprint import schema_lines

_NAME = "nightshift reads migrations"
_DECODER = json.JSONDecoder()
# Names of the sessions of all releases (core.migration_job.job_name), their locks' too.
_SESSIONS: LiteralString = (
    """
    WITH holders AS (SELECT a.pid """  # noqa: S608 - constants
    + HOLDERS
    + """)
    SELECT a.pid, a.application_name, coalesce(host(a.client_addr), 'not shown'), coalesce(a.state, ''),
           CASE WHEN a.pid IN (SELECT pid FROM holders) THEN 'holds the advisory lock of migrations'
                WHEN a.application_name LIKE 'nightshift-migrate-%%' THEN 'has a migration''s name' ELSE 'comes from the migration''s Pod' END
    FROM pg_stat_activity AS a
    WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
      AND (a.pid IN (SELECT pid FROM holders) OR a.application_name LIKE 'nightshift-migrate-%%' OR host(a.client_addr) = ANY (%s))
    ORDER BY a.pid
"""
)
_INVALID: LiteralString = """
    SELECT n.nspname || '.' || c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT i.indisvalid AND c.relkind = 'i' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' ORDER BY 1
"""
# The migrator's own tables with their indexes and sequences.
_OWN: LiteralString = """
    WITH tables AS (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
                    WHERE c.relkind IN ('r', 'p') AND (n.nspname, c.relname) IN (SELECT * FROM unnest(%s::text[], %s::text[])))
    SELECT n.nspname, c.relname FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.oid IN (SELECT oid FROM tables) OR c.oid IN (SELECT indexrelid FROM pg_index WHERE indrelid IN (SELECT oid FROM tables))
       OR (c.relkind = 'S' AND c.oid IN (SELECT objid FROM pg_depend WHERE refobjid IN (SELECT oid FROM tables) AND deptype IN ('a', 'i')))
"""
_COLUMNS: LiteralString = """
    SELECT attname FROM pg_attribute WHERE attnum > 0 AND NOT attisdropped
      AND attrelid = (SELECT c.oid FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s)
"""
# A server notices within this time that the client of an idle session is gone.
QUIET_SECONDS = 60.0


def read_state(database: Database, settings: Migration, *, addresses: Iterable[str] = ()) -> MigrationState:
    """Given a database and the addresses of a migration's Pods, return its state, all in one snapshot but for the sessions.

    Raise PermanentError when the migration table has no such column or may not be read, TemporaryError when the server is lost.
    """
    on = describe(database)
    with connect(database, application_name=_NAME) as connection, translated("read the state of migrations", on):
        pin_session(connection, PINNED_SETTINGS)
        sessions = _sessions(connection, addresses)
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        names = _names(connection, settings, on)
        return MigrationState(
            table_exists=names is not None,
            names=names or (),
            locked=_locked(connection, settings),
            invalid_indexes=tuple(row[0] for row in connection.execute(_INVALID)),
            fingerprint=_fingerprint(connection, settings),
            sessions=sessions,
        )


def state_when_quiet(
    database: Database, settings: Migration, *, addresses: Iterable[str] = (), seconds: float = QUIET_SECONDS
) -> MigrationState:
    """Given a database whose migration's Job has ended, return its state once no migration's session lives; after so many seconds, with those that still do.

    A client that was killed leaves its last statement running in the server: only the session's end tells what came of it.
    """
    found = tuple(addresses)
    retrying = Retrying(
        retry=retry_if_result(lambda state: bool(state.sessions)), stop=stop_after_delay(seconds), wait=wait_fixed(0.5)
    )
    try:
        return retrying(read_state, database, settings, addresses=found)
    except RetryError as error:
        state: MigrationState = error.last_attempt.result()
        return state


def release_stuck_lock(
    database: Database, settings: Migration, before: MigrationState, *, addresses: Iterable[str] = ()
) -> bool:
    """Given the state before a migration that has ended, take back the migrator's own lock that it left set. Return whether it was set.

    Raise PermanentError when the lock was set before already (it is somebody else's), or a session lives that is a migration or uses the migrator's tables.
    """
    on = f"{settings.lock_table} in {describe(database)}"
    if settings.lock_table is None or before.locked is None:
        return False
    if before.locked:
        found = "it was set before this migration: another one set it, and may still run"
        raise PermanentError("release the migrator's lock", on, found, "When it does not, run: npx knex migrate:unlock")
    with (
        connect(database, application_name=_NAME) as connection,
        translated("release the migrator's lock", on),
        connection.transaction(),
    ):
        connection.execute("SET LOCAL lock_timeout = '2s'")
        table = sql.Identifier(*settings.tables[1])
        # Whoever uses it is then gone, and nobody begins.
        connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(table))
        if alive := _sessions(connection, addresses):
            found = f"a migration still runs: {'; '.join(map(str, alive))}"
            raise PermanentError("release the migrator's lock", on, found, "Wait for its end")
        done = connection.execute(sql.SQL("UPDATE {} SET is_locked = 0 WHERE is_locked <> 0").format(table))
        return done.rowcount > 0


def _sessions(connection: Connection, addresses: Iterable[str]) -> tuple[MigrationSession, ...]:
    rows = connection.execute(_SESSIONS, (list(addresses),)).fetchall()
    return tuple(
        MigrationSession(pid=pid, application_name=name or "", client=client, state=state, why=why)
        for pid, name, client, state, why in rows
    )


def _names(connection: Connection, settings: Migration, on: str) -> tuple[str, ...] | None:
    """The applied migrations in the order of the table's id, if it has one, else of their names; None: there is no table."""
    columns = {row[0] for row in connection.execute(_COLUMNS, settings.tables[0])}
    if not columns:
        return None
    if settings.column not in columns:
        found = f"{settings.table} has the columns {', '.join(sorted(columns))}, and no {settings.column}"
        raise PermanentError("read the migration table", on, found, "Correct release.migration.column")
    name = sql.Identifier(settings.column)
    order = sql.Identifier("id") if "id" in columns else sql.SQL('{}::text COLLATE "C"').format(name)
    query = sql.SQL("SELECT {}::text FROM {} ORDER BY {}").format(name, sql.Identifier(*settings.tables[0]), order)
    return tuple(row[0] or "" for row in connection.execute(query))


def _locked(connection: Connection, settings: Migration) -> bool | None:
    if settings.lock_table is None:
        return None
    columns = {row[0] for row in connection.execute(_COLUMNS, settings.tables[1])}
    if "is_locked" not in columns:
        return None
    table = sql.Identifier(*settings.tables[1])
    row: TupleRow | None = connection.execute(
        sql.SQL("SELECT coalesce(bool_or(is_locked <> 0), false) FROM {}").format(table)
    ).fetchone()
    return bool(row and row[0])


def _fingerprint(connection: Connection, settings: Migration) -> str:
    """The schema's SHA-256 without the migrator's own tables, which its first run makes whatever becomes of it."""
    schemas, names = zip(*settings.tables, strict=True)
    own = {(schema, name) for schema, name in connection.execute(_OWN, (list(schemas), list(names)))}
    lines = [line for line in schema_lines(connection) if not _about(line, own)]
    return sha256_hex("\n".join(lines).encode())


def _about(line: str, own: set[tuple[str, str]]) -> bool:
    """Whether a line of the schema tells of one of these relations: their schema and name stand in it side by side (tasks.schema_fingerprint)."""
    plain, _end = _DECODER.raw_decode(line)
    return any(pair in own for pair in itertools.pairwise(plain) if all(isinstance(one, str) for one in pair))
