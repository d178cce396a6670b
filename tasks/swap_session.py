"""Sessions of a swap on the maintenance database, and the turn to swap, which one of them has at a time."""

import hashlib
from collections.abc import Iterator
from contextlib import closing, contextmanager

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.environment_database import Database
from core.errors import PermanentError
from tasks.postgres import Connection, connect, describe, translated

# The session of a process that was killed a moment ago may still have the turn.
_TURN_SECONDS = 3
# A statement that waits for another's lock while connections are refused is part of the outage.
_LOCK_SECONDS = 5


def described(login: Database, live: str) -> str:
    """Given a login and the live database's name, return how messages call the two."""
    return f"{live} by way of {describe(login)}"


def open_session(login: Database, live: str) -> Connection:
    """Given a login of the maintenance database and the live database's name, return a session that waits for no lock for long. Raise as tasks.postgres.connect."""
    connection = connect(login, application_name=f"nightshift swap {live}")
    connection.execute("SELECT pg_catalog.set_config('lock_timeout', %s, false)", (f"{_LOCK_SECONDS}s",))
    return connection


@contextmanager
def take_turn(login: Database, live: str) -> Iterator[Connection]:
    """A session that holds the advisory lock of the live database's name. Raise PermanentError when another has it."""
    key = int.from_bytes(hashlib.sha256(f"nightshift swap {live}".encode()).digest()[:8], signed=True)
    with closing(open_session(login, live)) as connection:

        def take() -> bool:
            row = connection.execute("SELECT pg_catalog.pg_try_advisory_lock(%s)", (key,)).fetchone()
            return row is not None and bool(row[0])

        taking = Retrying(
            retry=retry_if_result(lambda taken: not taken),
            stop=stop_after_delay(_TURN_SECONDS),
            wait=wait_fixed(0.1),
            retry_error_callback=lambda _state: False,
        )
        with translated("take the turn to swap", described(login, live)):
            taken = taking(take)
        if not taken:
            raise PermanentError(
                "take the turn to swap",
                described(login, live),
                "another swap, undo or recovery of this database is going on",
                "Wait until it has ended; its session is called `nightshift swap …` in pg_stat_activity.",
            )
        yield connection
