"""Sessions on PostgreSQL, and what psycopg's errors mean to a caller.

Every session sets its own time-outs: a role's or database's `statement_timeout` of a few seconds, common on managed platforms, must not end a backup.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from core.environment_database import Database
from core.errors import NightshiftError, PermanentError, TemporaryError
from tasks.secrets import resolve

CONNECT_SECONDS = 10
Connection = psycopg.Connection[TupleRow]

# A peer that vanished (failover, NAT table lost) is noticed after a minute rather than the kernel's two hours.
_KEEPALIVES = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
# pg_settings is asked which of these the server knows: transaction_timeout came with 17.
_TIMEOUTS = (
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "transaction_timeout",
)
_SET_TIMEOUTS: LiteralString = (
    "SELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings WHERE name = ANY (%s)"
)


def describe(database: Database) -> str:
    """Given a database's record, return how messages call it: `database app at db.example.com:5432`."""
    return f"database {database.name} at {database.host}:{database.port}"


def connect(
    database: Database, *, application_name: str, autocommit: bool = True, statement_timeout_seconds: int = 0
) -> Connection:
    """Given a database's record, return a session that looks names up in pg_catalog alone, without prepared statements and time-outs (but the statement's, in
    seconds, if given).

    Raise TemporaryError when the server cannot be reached, PermanentError when it refuses the role, the password or the database, ConfigurationError
    when the password's reference cannot be resolved.
    """
    connection = open_connection(database, application_name=application_name, autocommit=True)
    try:
        with translated("prepare a session", describe(database)):
            # First of all: a role's own search_path may put another "=" before pg_catalog's, and its own time-out be shorter than the next query.
            connection.execute("SET search_path = pg_catalog")
            # psycopg reads times of the ISO style alone; a database or a role may set another.
            connection.execute("SET DateStyle = 'ISO, YMD'")
            connection.execute(sql.SQL("SET statement_timeout = {}").format(f"{statement_timeout_seconds}s"))
            connection.execute(_SET_TIMEOUTS, (list(_TIMEOUTS),))
            connection.autocommit = autocommit
    except BaseException:
        connection.close()
        raise
    return connection


def open_connection(
    database: Database,
    *,
    application_name: str,
    autocommit: bool = True,
    connect_timeout_seconds: int = CONNECT_SECONDS,
) -> Connection:
    """As `connect`, but nothing is sent to the server after the handshake: for looking at what stands between (a pooler)."""
    parameters: dict[str, Any] = {
        "host": database.host,
        "port": database.port,
        "dbname": database.name,
        "user": database.user,
        "sslmode": database.sslmode,
        "sslrootcert": database.sslrootcert,
        "application_name": application_name[:63],
        "connect_timeout": connect_timeout_seconds,
        "client_encoding": "UTF8",
        # Empty, not absent: a worker's own PGOPTIONS must not reach the server.
        "options": "",
        **_KEEPALIVES,
    }
    if database.password is not None:
        parameters["password"] = resolve(database.password).get_secret_value()
    with translated("connect", f"{describe(database)} as {database.user}"):
        return psycopg.connect(**parameters, autocommit=autocommit, prepare_threshold=None)


def libpq_environment(database: Database, *, application_name: str = "nightshift") -> dict[str, str]:
    """Given a database's record, return the whole environment of a client program; nothing is inherited, so no cloud credential reaches it.

    There is no PGOPTIONS in it: pg_dump itself sets statement, lock, idle-in-transaction and (from 17) transaction time-outs to 0, and a pooler in session mode
    refuses the start-up parameter `options`. Raise ConfigurationError when the password's reference cannot be resolved.
    """
    environment = {
        "PGHOST": database.host,
        "PGPORT": str(database.port),
        "PGDATABASE": database.name,
        "PGUSER": database.user,
        "PGSSLMODE": database.sslmode,
        "PGAPPNAME": application_name[:63],
        "PGCONNECT_TIMEOUT": str(CONNECT_SECONDS),
        # pg_dump sets it itself; pg_dumpall writes VALID UNTIL as the database or the role has it, and 04/03/2099 is read back as another day elsewhere.
        "PGDATESTYLE": "ISO",
        "LC_ALL": "C",
        "PATH": "/usr/bin:/bin",
    }
    if database.sslrootcert is not None:
        environment["PGSSLROOTCERT"] = database.sslrootcert
    if database.password is not None:
        environment["PGPASSWORD"] = resolve(database.password).get_secret_value()
    return environment


def pin_session(connection: Connection, settings: Mapping[str, str]) -> None:
    """Given a session and settings, make them its own until it ends. Settings that the server does not know are an error (psycopg.Error)."""
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


@contextmanager
def translated(attempted: str, on: str) -> Iterator[None]:
    """Within the block, psycopg's errors become TemporaryError or PermanentError, named after what was attempted and on what."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error, attempted, on) from error


def translate(error: psycopg.Error, attempted: str, on: str) -> NightshiftError:
    """Given psycopg's error, return ours: temporary when the same step may succeed later, else permanent with what to do.

    SQLSTATEs: PostgreSQL manual, appendix A. While connecting libpq tells none, so there the server's sentence is read; a server that speaks another language
    than English then makes a wrong password look temporary, which costs three retries.
    """
    found = error.diag.message_primary or str(error) or type(error).__name__
    if error.diag.message_detail:
        found = f"{found} ({error.diag.message_detail})"
    state = error.sqlstate or ""
    for pattern, sentence, next_step in _PERMANENT:
        if re.match(pattern, state) if state else sentence and re.search(sentence, found):
            return PermanentError(attempted, on, found, next_step)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or state[:2] in _TEMPORARY_CLASSES:
        next_step = _CLOSED if "is not currently accepting connections" in found else _UNREACHED
        return TemporaryError(attempted, on, found, next_step)
    return PermanentError(attempted, on, f"{found} [SQLSTATE {state or 'none'}]", "See the server's log.")


_UNREACHED = "The server may be restarting, unreachable or overloaded."
_CLOSED = (
    "It was closed on purpose: for a moment by a swap that is going on, or left so by one that was killed. Its comment (\\l+ in psql, on another database) says how"
    " it is opened; docs/restore.md, `The live database refuses connections`."
)

# Connection lost, transaction rolled back (serialization, deadlock), resources short, object in use or lock not available, cancelled or shut down.
_TEMPORARY_CLASSES = frozenset({"08", "40", "53", "55", "57", "58"})
_PERMANENT: tuple[tuple[str, str, str], ...] = (
    (
        r"28",
        r"authentication failed|no password supplied|no pg_hba\.conf entry|role \".*\" does not exist|not permitted to log in",
        "Check the role, its password reference and pg_hba.conf.",
    ),
    (r"3D000", r"database \".*\" does not exist", "Check the database's name in the environment file."),
    (
        r"42501",
        r"permission denied",
        "Grant the role what is missing: GRANT pg_read_all_data TO the role; ALTER ROLE … BYPASSRLS where row security is on.",
    ),
    (
        r"53200",
        r"",
        "The server has no shared memory left, mostly for locks: raise max_locks_per_transaction and restart it.",
    ),
    (
        r"0A000",
        r"unsupported startup parameter",
        "A pooler stands between: use the direct connection.",
    ),
    (
        r"^$",
        r"SSL|certificate",
        "Check sslmode and sslrootcert in the environment file, and the server's certificate.",
    ),
)
