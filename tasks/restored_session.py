"""Sessions on a restored copy: sure to be on the copy and on nothing else, and read-only unless damage is to be tried.

A copy has what the source's owner has set for sessions on it (ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET); that is compared, and is not in force in ours: a
database that is read-only for its users, or lets them begin as another role, is verified and masked like any other.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import LiteralString

from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database
from core.errors import PermanentError
from core.restore_record import Restored
from tasks.database_properties import UNKNOWN, read_server
from tasks.postgres import Connection, connect, describe, pin_session, translated

# What our statements count on, as PostgreSQL has it by default. Those that only a superuser may set are set for superusers, to whom alone they then apply in earnest.
_OURS = {
    "array_nulls": "on",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "exit_on_error": "off",
    "ignore_checksum_failure": "off",
    "restrict_nonsystem_relation_kind": "",
    "row_security": "off",
    "session_replication_role": "origin",
    "standard_conforming_strings": "on",
    "temp_file_limit": "-1",
    "transform_null_equals": "off",
    "zero_damaged_pages": "off",
}
# A name that the server does not know is passed over: some came with later majors.
_SET_OURS: LiteralString = """
    SELECT pg_catalog.set_config(s.name, ours.value, false)
    FROM unnest(%s::text[], %s::text[]) AS ours (name, value) JOIN pg_catalog.pg_settings AS s ON s.name = ours.name
    WHERE s.context = 'user' OR (SELECT r.rolsuper FROM pg_catalog.pg_roles AS r WHERE r.rolname = current_user)
"""
# A role that the database sets is left for what the login itself is set to, mostly nothing.
_ROLE: LiteralString = """
    WITH said (everywhere, own, value) AS (
        SELECT s.setdatabase = 0, s.setrole <> 0, pg_catalog.substr(item, 6)
        FROM pg_catalog.pg_db_role_setting AS s CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS item
        WHERE item LIKE 'role=%' AND s.setdatabase IN (0, (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()))
          AND s.setrole IN (0, (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = session_user)))
    SELECT pg_catalog.set_config('role', coalesce((SELECT value FROM said WHERE everywhere ORDER BY own DESC LIMIT 1), 'none'), false)
    WHERE EXISTS (SELECT FROM said WHERE NOT everywhere)
"""


def connect_to_copy(database: Database, *, application_name: str, statement_timeout_seconds: int = 0) -> Connection:
    """As tasks.postgres.connect, in autocommit mode, for a database that a restore made: whatever is set for sessions on it does not stand in the way of ours.

    Row security is off: where it would hide rows, a statement fails instead.
    """
    connection = connect(
        database, application_name=application_name, statement_timeout_seconds=statement_timeout_seconds
    )
    try:
        with translated("prepare a session", describe(database)):
            connection.execute(_ROLE)
            connection.execute(_SET_OURS, (list(_OURS), list(_OURS.values())))
    except BaseException:
        connection.close()
        raise
    return connection


# What yields a session on the copy for a while: a new one, or one of those that were opened before it was closed to all others.
Opening = Callable[[], AbstractContextManager[Connection]]


def open_copy(database: Database, restored: Restored, *, purpose: str, read_only: bool = True) -> Connection:
    """Given a copy's login and what was restored, return a session on it with PINNED_SETTINGS, each statement a transaction of its own.

    Raise PermanentError when the login leads to another database than the one that was restored (an alias, a pooler; the source itself would match perfectly),
    and what `connect` raises.
    """
    connection = connect_to_copy(database, application_name=f"nightshift {purpose}")
    try:
        with translated("prepare a session", describe(database)):
            pin_session(connection, PINNED_SETTINGS)
            _refuse_another(connection, database, restored)
            if read_only:
                pin_session(connection, {"default_transaction_read_only": "on"})
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_another(connection: Connection, database: Database, restored: Restored) -> None:
    server = read_server(connection, database)
    identifiers = {server.system_identifier, restored.system_identifier} - {UNKNOWN}
    if server.database_oid != restored.oid or len(identifiers) > 1:
        raise PermanentError(
            "look at the restored copy",
            describe(database),
            f"it has oid {server.database_oid} on system {server.system_identifier},"
            f" the copy has oid {restored.oid} on system {restored.system_identifier}",
            "The login leads to another database: a pooler or an alias. Use a direct connection.",
        )
