"""The way back of a swap: at once after an error, or later after a killed process."""

from contextlib import closing

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_fixed

from core.environment_database import Database
from core.errors import NightshiftError, PermanentError, TemporaryError
from core.swap_plan import Marker, SwapRecovery, read_marker
from tasks.postgres import Connection, translated
from tasks.swap_facts import read_database_facts
from tasks.swap_session import described, open_session
from tasks.swap_transactions import State, reopen

# A server that restarts, or fails over to a standby behind the same name, is back within this time or not soon.
_TRIES, _SECONDS_BETWEEN = 10, 1


def recover(connection: Connection, login: Database, live: str) -> SwapRecovery:
    """Given a session that holds the turn (so no process that could own a marker lives) and the live database's name, open that again if a swap left it closed.

    Raise PermanentError when it is closed for another reason, TemporaryError or PermanentError when the server cannot be asked.
    """
    with translated("recover from an unfinished swap", described(login, live)):
        facts = read_database_facts(connection, live)
        if isinstance(facts, str):
            return SwapRecovery(live=live, reopened=False, found=f"there is no database {live}")
        marker = read_marker(facts.comment, facts.oid)
        if marker is not None and reopen(connection, marker) == "reopened":
            found = f"a swap with {marker.copied}, begun {marker.begun:%Y-%m-%d %H:%M:%S} UTC, had ended before the renames; {live} takes connections again"
            return SwapRecovery(live=live, reopened=True, found=found)
    if not facts.allow_connections:
        raise PermanentError(
            "recover from an unfinished swap",
            described(login, live),
            "it refuses connections, and no swap says that it did that",
            "If it should take them: ALTER DATABASE … ALLOW_CONNECTIONS true.",
        )
    return SwapRecovery(live=live, reopened=False, found=f"{live} takes connections; no swap is unfinished")


def go_back(login: Database, connection: Connection, marker: Marker, cause: BaseException) -> State:
    """Given a session, perhaps lost, the marker and why the swap failed, open the live database again, on a new session where need be.

    Raise PermanentError with the statement to run when that fails for long.
    """
    try:
        if not connection.closed:
            return reopen(connection, marker)
    except psycopg.Error:
        connection.close()
    opening = Retrying(
        retry=retry_if_exception_type((psycopg.Error, TemporaryError)),
        stop=stop_after_attempt(_TRIES),
        wait=wait_fixed(_SECONDS_BETWEEN),
        reraise=True,
    )
    try:
        return opening(_reopen_anew, login, marker)
    except (psycopg.Error, NightshiftError) as error:
        raise PermanentError(
            "open the live database again after a swap that failed",
            described(login, marker.live),
            f"{error} (the swap failed because: {cause})",
            f"IT REFUSES CONNECTIONS. As soon as the server answers, recover the swap, or run: {marker.way_back}",
        ) from cause


def _reopen_anew(login: Database, marker: Marker) -> State:
    with closing(open_session(login, marker.live)) as connection:
        return reopen(connection, marker)
