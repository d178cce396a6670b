"""Sessions on a restored copy: sure to be on the copy and on nothing else, and read-only unless damage is to be tried."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from core.digest_sql import PINNED_SETTINGS
from core.environment import Database
from core.errors import PermanentError
from core.restore_record import Restored
from tasks.database_properties import UNKNOWN, read_server
from tasks.postgres import Connection, connect, describe, pin_session, translated

# What yields a session on the copy for a while: a new one, or one of those that were opened before it was closed to all others.
Opening = Callable[[], AbstractContextManager[Connection]]


def open_copy(database: Database, restored: Restored, *, purpose: str, read_only: bool = True) -> Connection:
    """Given a copy's login and what was restored, return a session on it with PINNED_SETTINGS, each statement a transaction of its own.

    Raise PermanentError when the login leads to another database than the one that was restored (an alias, a pooler; the source itself would match perfectly),
    and what `connect` raises.
    """
    connection = connect(database, application_name=f"nightshift {purpose}")
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
