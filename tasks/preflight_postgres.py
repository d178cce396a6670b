"""What is looked at on the server before a backup begins, so that it fails with a clear sentence now and not with pg_dump's at two in the morning."""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

from core.checks import Check
from core.digest_sql import quoted
from core.environment_database import Database
from core.errors import NightshiftError
from tasks.clients import find_clients
from tasks.inventory import read_excluded_schemas
from tasks.inventory_tables import read_relations
from tasks.pooler import find_pooler
from tasks.postgres import Connection, connect, describe, translated

OLDEST_MAJOR = 14
CLOCK_WARNING_SECONDS, CLOCK_FAILURE_SECONDS = 60, 300
_NAMED_AT_MOST = 10
_STATEMENT_SECONDS = 60


def utc_now() -> datetime:
    """The worker's clock."""
    return datetime.now(UTC)


def check_postgres(
    environment_name: str, key: str, database: Database, *, now: Callable[[], datetime] = utc_now
) -> list[Check]:
    """Given an environment's name, a database's key and record in it, return what was found, one check a topic; a server out of reach is a failed check, not an error.

    Nothing is changed and nothing is locked.
    """
    where = f"[databases.{key}] in the environment {environment_name}"
    try:
        if pooler := find_pooler(database):
            step = f"Name the direct connection in {where}; a transaction pooler cannot hold a snapshot."
            return [_failed(key, "connection", f"a transaction pooler stands between: {pooler}", step)]
        with (
            connect(
                database, application_name="nightshift preflight", statement_timeout_seconds=_STATEMENT_SECONDS
            ) as connection,
            translated("look at the server", describe(database)),
        ):
            return list(_checks(key, where, database, connection, now))
    except NightshiftError as error:
        return [_failed(key, "connection", f"{error.attempted}: {error.found}", error.next_step)]


def _passed(key: str, topic: str, found: str) -> Check:
    return Check(name=f"{key}: {topic}", state="passed", found=found)


def _warning(key: str, topic: str, found: str, next_step: str) -> Check:
    return Check(name=f"{key}: {topic}", state="warning", found=found, next_step=next_step)


def _failed(key: str, topic: str, found: str, next_step: str) -> Check:
    return Check(name=f"{key}: {topic}", state="failed", found=found, next_step=next_step)


def _checks(
    key: str, where: str, database: Database, connection: Connection, now: Callable[[], datetime]
) -> Iterator[Check]:
    yield _passed(
        key, "connection", f"{describe(database)} as {database.user}, each session with its own server process"
    )
    server = _server_version(key, connection)
    yield server
    if server.state == "failed":
        return
    yield _client_programs(key, connection)
    yield _schemas(key, where, database, connection)
    exclude = read_excluded_schemas(connection, database)
    tables = [relation.oid for relation in read_relations(connection, exclude)]
    if not tables:
        found = f"there is no table to back up in database {database.name}"
        yield _warning(
            key, "tables", found, f"Is it the right one? See name, include_schemas, exclude_schemas in {where}."
        )
    yield _readable(key, database, connection, tables, exclude)
    yield _row_security(key, database, connection, tables)
    yield _large_objects(key, database, connection)
    if database.role_passwords:
        yield _role_passwords(key, where, connection)
    yield _locks(key, connection, tables)
    yield _clock(key, connection, now)
    yield _recovery(key, connection)


def _row(connection: Connection, query: LiteralString, parameters: Any = None) -> tuple[Any, ...]:
    row = connection.execute(query, parameters).fetchone()
    assert row is not None  # noqa: S101 - for the type checker: each of these queries has one row
    return row


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more


def _counted(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _server_version(key: str, connection: Connection) -> Check:
    version = connection.info.parameter_status("server_version") or "unknown"
    if connection.info.server_version // 10000 < OLDEST_MAJOR:
        return _failed(
            key,
            "server",
            f"PostgreSQL {version}",
            f"nightshift needs PostgreSQL {OLDEST_MAJOR} or newer: upgrade the server.",
        )
    return _passed(key, "server", f"PostgreSQL {version}")


def _client_programs(key: str, connection: Connection) -> Check:
    try:
        clients = find_clients(connection.info.server_version // 10000)
    except NightshiftError as error:
        return _failed(key, "client programs", error.found, error.next_step)
    return _passed(key, "client programs", f"pg_dump {clients.version} in {clients.folder}")


def _schemas(key: str, where: str, database: Database, connection: Connection) -> Check:
    present = {row[0] for row in connection.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()}
    if absent := [name for name in database.include_schemas if name not in present]:
        return _failed(
            key, "schemas", f"include_schemas names what is not there: {_listed(absent)}", f"Correct {where}."
        )
    if absent := [name for name in database.exclude_schemas if name not in present]:
        return _warning(
            key,
            "schemas",
            f"exclude_schemas names what is not there: {_listed(absent)}",
            f"Is the name right? See {where}.",
        )
    return _passed(
        key, "schemas", "all that are named exist" if database.include_schemas or database.exclude_schemas else "all"
    )


_UNREADABLE: LiteralString = """
    SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname), n.nspname
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE (c.oid = ANY (%(tables)s) OR (
             c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)
             AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                             WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')))
      AND NOT (pg_catalog.has_schema_privilege(n.oid, 'USAGE')
               AND CASE c.relkind WHEN 'S' THEN pg_catalog.has_sequence_privilege(c.oid, 'SELECT')
                   ELSE pg_catalog.has_table_privilege(c.oid, 'SELECT') END)
    ORDER BY 1
"""


def _readable(
    key: str, database: Database, connection: Connection, tables: Sequence[int], exclude: Sequence[str]
) -> Check:
    rows = connection.execute(_UNREADABLE, {"tables": list(tables), "exclude": list(exclude)}).fetchall()
    if not rows:
        return _passed(key, "privileges", f"{database.user} can read all {len(tables)} tables and their sequences")
    role, names = quoted(database.user), _listed([row[0] for row in rows])
    schemas = _listed(sorted({quoted(row[1]) for row in rows}))
    return _failed(
        key,
        "privileges",
        f"{database.user} cannot read {_counted(len(rows), 'table or sequence', 'tables or sequences')}: {names}",
        f"GRANT pg_read_all_data TO {role}; or for these alone: GRANT USAGE ON SCHEMA {schemas} TO {role};"
        f" GRANT SELECT ON {names} TO {role}; or exclude their schemas.",
    )


def _row_security(key: str, database: Database, connection: Connection, tables: Sequence[int]) -> Check:
    rows = connection.execute(
        "SELECT pg_catalog.format('%%I.%%I', n.nspname, c.relname) FROM pg_catalog.pg_class AS c"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace"
        " WHERE c.oid = ANY (%s) AND pg_catalog.row_security_active(c.oid) ORDER BY 1",
        (list(tables),),
    ).fetchall()
    if not rows:
        return _passed(key, "row security", f"hides nothing from {database.user}")
    return _failed(
        key,
        "row security",
        f"hides rows from {database.user} in {_counted(len(rows), 'table', 'tables')}: {_listed([row[0] for row in rows])}",
        f"ALTER ROLE {quoted(database.user)} BYPASSRLS; (a superuser must say so; where there is none, back up as the tables' owner).",
    )


# has_largeobject_privilege came with 18; pg_read_all_data does not open large objects before it is said to by the server itself.
_CLOSED_LARGE_OBJECTS: LiteralString = """
    SELECT l.oid::text FROM pg_catalog.pg_largeobject_metadata AS l
    WHERE NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
      AND pg_catalog.current_setting('lo_compat_privileges') = 'off'
      AND NOT pg_catalog.pg_has_role(l.lomowner, 'USAGE')
      AND NOT EXISTS (SELECT FROM pg_catalog.aclexplode(l.lomacl) AS a
                      WHERE a.privilege_type = 'SELECT' AND (a.grantee = 0 OR pg_catalog.pg_has_role(a.grantee, 'USAGE')))
    ORDER BY l.oid
"""


def _large_objects(key: str, database: Database, connection: Connection) -> Check:
    if connection.info.server_version >= 180000:
        rows = connection.execute(
            "SELECT l.oid::text FROM pg_catalog.pg_largeobject_metadata AS l"
            " WHERE NOT pg_catalog.has_largeobject_privilege(l.oid, 'SELECT') ORDER BY l.oid"
        ).fetchall()
    else:
        rows = connection.execute(_CLOSED_LARGE_OBJECTS).fetchall()
    if not rows:
        return _passed(key, "large objects", f"none is closed to {database.user}")
    return _failed(
        key,
        "large objects",
        f"{database.user} cannot read {_counted(len(rows), 'large object', 'large objects')}: {_listed([row[0] for row in rows])}",
        f"GRANT SELECT ON LARGE OBJECT {_listed([row[0] for row in rows])} TO {quoted(database.user)}; or back up as their owner or a superuser.",
    )


def _role_passwords(key: str, where: str, connection: Connection) -> Check:
    if _row(connection, "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_authid', 'SELECT')")[0]:
        return _passed(key, "role passwords", "readable")
    return _failed(
        key,
        "role passwords",
        "role_passwords is set, but only a superuser may read them",
        f"Back up as a superuser, or set role_passwords = false in {where}.",
    )


_LOCK_SPACE: LiteralString = """
    SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint,
           (SELECT sum(s.setting::bigint) FROM pg_catalog.pg_settings AS s WHERE s.name IN
               ('max_connections', 'autovacuum_max_workers', 'autovacuum_worker_slots', 'max_worker_processes', 'max_wal_senders', 'max_prepared_transactions')),
           (SELECT count(*) FROM pg_catalog.pg_index AS i WHERE i.indrelid = ANY (%(tables)s)),
           (SELECT count(*) FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (%(tables)s) AND c.reltoastrelid <> 0)
"""


def _locks(key: str, connection: Connection, tables: Sequence[int]) -> Check:
    """A backup locks every table; its queries lock indexes and toast tables too. The lock table has room for max_locks_per_transaction times the processes."""
    each, processes, indexes, toast = _row(connection, _LOCK_SPACE, {"tables": list(tables)})
    room, needed = each * processes, len(tables) + indexes + toast
    step = f"Set max_locks_per_transaction = {max(each, -(-needed * 5 // (4 * processes)))} in postgresql.conf and restart the server."
    if len(tables) > room:
        return _failed(
            key, "locks", f"{len(tables)} tables are to be locked, and the lock table has room for {room}", step
        )
    if needed > room:
        return _warning(
            key, "locks", f"about {needed} tables and indexes are locked, and the lock table has room for {room}", step
        )
    return _passed(key, "locks", f"about {needed} needed, room for {room}")


def _clock(key: str, connection: Connection, now: Callable[[], datetime]) -> Check:
    """The server's clock against the worker's, seen in the middle of a round trip."""
    before = now()
    server: datetime = _row(connection, "SELECT pg_catalog.clock_timestamp()")[0]
    middle = before + (now() - before) / 2
    seconds = (server - middle).total_seconds()
    found = f"the server's clock is {abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'} the worker's"
    step = "Set both clocks by NTP: backup ids and ages come from them."
    if abs(seconds) > CLOCK_FAILURE_SECONDS:
        return _failed(key, "clock", found, step)
    if abs(seconds) > CLOCK_WARNING_SECONDS:
        return _warning(key, "clock", found, step)
    return _passed(key, "clock", found)


def _recovery(key: str, connection: Connection) -> Check:
    in_recovery, feedback, delay = _row(
        connection,
        "SELECT pg_catalog.pg_is_in_recovery(), pg_catalog.current_setting('hot_standby_feedback'),"
        " (SELECT s.setting::bigint FROM pg_catalog.pg_settings AS s WHERE s.name = 'max_standby_streaming_delay')",
    )
    if not in_recovery:
        return _passed(key, "recovery", "a primary")
    found = "a standby: rows of unlogged tables are not there to be backed up"
    if feedback == "off" and delay != -1:
        return _warning(
            key,
            "recovery",
            f"{found}; replay cancels a dump that stands in its way for {delay} ms",
            "Set hot_standby_feedback = on, or max_standby_streaming_delay = -1, on the standby.",
        )
    return _passed(key, "recovery", found)
