"""The locks of a restore: one on its id, so that its copy is known to be worked on, and one on the name that it is to give, so that two never make the same."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import psycopg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment_database import Database
from core.errors import PermanentError, TemporaryError
from tasks.postgres import Connection, connect, describe, translated

# A process that was killed holds its locks until the server notices, mostly at once.
_OWN_LOCK_SECONDS = 15.0


def lock_key(text: str) -> int:
    """Given what a lock is for, return its key: the first eight bytes of a SHA-256 as PostgreSQL's bigint."""
    return int.from_bytes(hashlib.sha256(f"nightshift {text}".encode()).digest()[:8], "big", signed=True)


def restore_key(restore_id: str) -> int:
    """The key of the lock that is held as long as a restore works on its copy."""
    return lock_key(f"restore {restore_id}")


def target_key(name: str) -> int:
    """The key of the lock on the name that a restore was asked to give."""
    return lock_key(f"target {name}")


@contextmanager
def hold_locks(login: Database, restore_id: str, target: str | None) -> Iterator[Connection]:
    """Given the maintenance login, yield a session that holds the locks of this restore, and of its target's name, until the block ends.

    Raise PermanentError when another restore makes a database of that name; TemporaryError when this restore's own lock is held, by a run that is not dead after 15 s.
    """
    on = describe(login)
    connection = connect(login, application_name=f"nightshift restore {restore_id}")
    try:
        with translated("take the locks of the restore", on):
            own = Retrying(
                retry=retry_if_result(lambda taken: not taken),
                stop=stop_after_delay(_OWN_LOCK_SECONDS),
                wait=wait_fixed(0.1),
                retry_error_callback=lambda _state: False,
            )
            if not own(try_lock, connection, restore_key(restore_id)):
                raise TemporaryError(
                    "begin the restore",
                    on,
                    f"restore {restore_id} is running already",
                    "Wait for its end, or cancel it",
                )
            if target is not None and not try_lock(connection, target_key(target)):
                raise PermanentError(
                    "begin the restore",
                    on,
                    f"another restore is making a database called {target} ({holder(connection, target_key(target))})",
                    "Wait for its end, or choose another name",
                )
        yield connection
    finally:
        with suppress(psycopg.Error):
            connection.close()


def try_lock(connection: Connection, key: int) -> bool:
    """Take an advisory lock for as long as the session lives, unless another has it; tell whether it was taken. Raise psycopg.Error."""
    row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key,)).fetchone()
    return row is not None and bool(row[0])


def holder(connection: Connection, key: int) -> str | None:
    """Who holds a lock of the session's database, as `nightshift restore 1f2e3d4c, pid 4242`; None when nobody does. Takes no lock itself. Raise psycopg.Error."""
    high, low = (key >> 32) & 0xFFFFFFFF, key & 0xFFFFFFFF
    row = connection.execute(
        "SELECT coalesce(a.application_name, ''), l.pid FROM pg_catalog.pg_locks AS l"
        " JOIN pg_catalog.pg_database AS d ON d.oid = l.database AND d.datname = pg_catalog.current_database()"
        " LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid"
        " WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.classid = %s::oid AND l.objid = %s::oid AND l.granted",
        (str(high), str(low)),
    ).fetchone()
    return f"{row[0]}, pid {row[1]}" if row else None
