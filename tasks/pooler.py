"""Is there a transaction pooler between us and the server? Through one, a session's snapshot, locks and settings belong to whoever comes next.

Two sessions are opened. On a direct connection (or a pooler in session mode) each has a server process of its own for as long as it lives. A transaction pooler
hands the first session's process to the second while it holds a transaction, and then gives the first one another, or lets it wait.
"""

import contextlib
import select
import time

import psycopg
from psycopg import pq

from core.environment_database import Database
from tasks.postgres import Connection, describe, open_connection, translated

_CONNECT_SECONDS = 10
_ANSWER_SECONDS = 5.0


def find_pooler(database: Database) -> str | None:
    """Given a database's record, return what betrays a pooler that cannot hold a snapshot, or None. Raise NightshiftError when there is no connection at all."""
    # closing, since psycopg's own context manager would first commit, on a session that may hang.
    with (
        contextlib.closing(_probe(database)) as first,
        contextlib.closing(_probe(database)) as second,
        translated("look for a pooler", describe(database)),
    ):
        process = _answer(first, b"SELECT pg_catalog.pg_backend_pid()")
        try:
            begun = _answer(second, b"BEGIN")
        except psycopg.Error as error:
            return f"a transaction is refused: {error.diag.message_primary or error}"
        other = _answer(second, b"SELECT pg_catalog.pg_backend_pid()") if begun is not None else None
        if process is None or other is None:
            return f"a second session got no answer within {_ANSWER_SECONDS:.0f} s"
        if other == process:
            return f"two sessions share the server process {process}"
        again = _answer(first, b"SELECT pg_catalog.pg_backend_pid()")
    if again is None:
        return f"a session got no answer within {_ANSWER_SECONDS:.0f} s while another held a transaction"
    if again != process:
        return f"one session was served by the processes {process} and {again}"
    return None


def _probe(database: Database) -> Connection:
    return open_connection(database, application_name="nightshift preflight", connect_timeout_seconds=_CONNECT_SECONDS)


def _answer(connection: Connection, query: bytes) -> str | None:
    """Given a session and a query of one value, return the value (empty for a command), or None when none came in time; the session is of no use then."""
    connection.pgconn.send_query(query)
    deadline = time.monotonic() + _ANSWER_SECONDS
    value = ""
    while True:
        while connection.pgconn.is_busy():
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([connection.pgconn.socket], [], [], left)[0]:
                return None
            connection.pgconn.consume_input()
        result = connection.pgconn.get_result()
        if result is None:
            return value
        if result.status == pq.ExecStatus.FATAL_ERROR:
            raise psycopg.OperationalError(result.error_message.decode(errors="replace"))
        if result.status == pq.ExecStatus.TUPLES_OK:
            value = (result.get_value(0, 0) or b"").decode()
