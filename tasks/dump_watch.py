"""Which table pg_dump is at, asked of the server while it runs. For the eye only: when it cannot be told, nothing is said."""

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from core.environment_database import Database
from core.errors import NightshiftError
from tasks.postgres import Connection, connect
from tasks.progress import Progress

# pg_stat_progress_copy: PostgreSQL 14 and newer; a role sees its own sessions there.
_CURRENT_TABLE = """
    SELECT p.relid::regclass::text FROM pg_catalog.pg_stat_progress_copy AS p JOIN pg_catalog.pg_stat_activity AS a ON a.pid = p.pid
    WHERE a.application_name = %s AND p.datname = pg_catalog.current_database() LIMIT 1
"""


@contextmanager
def watched_dump(database: Database, application_name: str, progress: Progress) -> Iterator[None]:
    """While the block runs, let `progress` ask which table the session called `application_name` copies."""
    try:
        connection = connect(database, application_name="nightshift progress", statement_timeout_seconds=5)
    except NightshiftError:
        # The role's connection limit may be reached: the backup matters, its progress does not.
        yield
        return
    try:
        progress.dump_table = lambda: _current_table(connection, application_name)
        yield
    finally:
        progress.dump_table = lambda: ""
        connection.close()


def _current_table(connection: Connection, application_name: str) -> str:
    try:
        row = connection.execute(_CURRENT_TABLE, (application_name[:63],)).fetchone()
    except psycopg.Error:
        return ""
    return str(row[0]) if row else ""
