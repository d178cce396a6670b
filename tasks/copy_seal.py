"""Closing a copy for its last comparison before a swap, so that nobody writes to it between the comparison and its new name.

ALLOW_CONNECTIONS false keeps everybody out, superusers too (CheckMyDatabase, postinit.c), and so us: the sessions that compare are opened before. From the moment it
holds, and those who were about to enter have shown up or were refused, our sessions are the only ones, and they only read. So what they find holds until somebody
opens the copy, and the seal in its comment would then be gone or another: the swap looks at that in the transaction in which it refuses connections to the live database.

A background worker that asks to be let in nevertheless (BGWORKER_BYPASS_ALLOWCONN) is let in: PostgreSQL's own parallel workers are, which belong to a session.
"""

import logging
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import datetime
from queue import SimpleQueue

import psycopg
from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.copy_seal import Seal, read_seal, seal_text
from core.environment_database import Database
from core.errors import NightshiftError, PermanentError
from core.restore_record import Restored
from core.swap_plan import Session
from tasks.postgres import Connection, pin_session, translated
from tasks.restored_session import Opening, open_copy
from tasks.swap_facts import read_database_facts, read_sessions
from tasks.swap_session import described, open_session, take_turn
from tasks.swap_transactions import SERVES, allow_connections, comment_on, require_sealed

logger = logging.getLogger(__name__)

# A session of our own that ended a moment ago may still be listed, and one that was about to enter needs as long as its authentication.
_EMPTY_SECONDS = 10
# A session that enters holds this lock on the database from before it looks whether it may until it is listed (InitPostgres, postinit.c).
_ENTERING = """
    SELECT count(*) FROM pg_catalog.pg_locks
    WHERE locktype = 'object' AND classid = 'pg_catalog.pg_database'::pg_catalog.regclass AND objid = %s::oid AND mode = 'RowExclusiveLock' AND granted
"""


@contextmanager
def sealed(
    login: Database, live: str, copy: Database, restored: Restored, restore_id: str, *, begun: datetime, sessions: int
) -> Iterator[tuple[Seal, Opening]]:
    """Given the maintenance login, the live database's name, the copy's login and record, close the copy to all but `sessions` sessions, and yield its seal and what
    opens one of these. It stays closed after the block: for the swap. Whatever fails in it opens the copy again.

    Raise PermanentError when somebody is in it and does not leave, or it is not the one that was restored.
    """
    on = described(login, restored.name)
    with take_turn(login, live) as connection, ExitStack() as stack:
        with translated("close the copy for its comparison", on):
            unseal(connection, restored.name, restored.oid, restore_id)
            ours = [stack.enter_context(_open(copy, restored)) for _ in range(sessions)]
            seal = _close(connection, restored, restore_id, begun)
        try:
            with translated("close the copy for its comparison", on):
                _wait_for_others(connection, restored, [session.info.backend_pid for session in ours])
            yield seal, _taking_turns(ours)
            # The session that has the turn is asked as well: without it another swap may have begun.
            with translated("look whether the copy stayed closed", on):
                require_sealed(connection, seal)
        except BaseException:
            unseal_or_tell(login, live, restored, restore_id)
            raise


def _open(copy: Database, restored: Restored) -> Connection:
    connection = open_copy(copy, restored, purpose="verify")
    # Parallel workers were refused by a closed database before PostgreSQL's minor releases of 2025.
    pin_session(connection, {"max_parallel_workers_per_gather": "0"})
    return connection


def _taking_turns(sessions: Sequence[Connection]) -> Opening:
    free: SimpleQueue[Connection] = SimpleQueue()
    for session in sessions:
        free.put(session)

    @contextmanager
    def take() -> Iterator[Connection]:
        session = free.get()
        try:
            yield session
        finally:
            free.put(session)

    return take


def _close(connection: Connection, restored: Restored, restore_id: str, begun: datetime) -> Seal:
    with connection.transaction():
        connection.execute(allow_connections(restored.name, allowed=False))
        # Only now, since the statement before has locked the row.
        facts = read_database_facts(connection, restored.name)
        if isinstance(facts, str) or facts.oid != restored.oid:
            raise PermanentError(
                "close the copy for its comparison",
                restored.name,
                "what has this name is not the database that was restored and verified",
                "Nothing was changed. Start a new restore",
            )
        way_back = (allow_connections(restored.name, allowed=True), comment_on(restored.name, facts.comment))
        seal = Seal(
            restore_id=restore_id,
            copied=restored.name,
            copied_oid=restored.oid,
            comment=facts.comment,
            begun=begun,
            way_back="; ".join(statement.as_string(connection) for statement in way_back) + ";",
        )
        connection.execute(comment_on(restored.name, seal_text(seal)))
    return seal


def _wait_for_others(connection: Connection, restored: Restored, ours: Collection[int]) -> None:
    """Wait until nobody enters any more and nobody but us is there. Raise PermanentError naming those who stay, psycopg.Error."""

    def others() -> tuple[int, tuple[Session, ...]]:
        # In this order: who held the lock no more is listed by now, or has left.
        row = connection.execute(_ENTERING, (restored.oid,)).fetchone()
        if row and row[0]:
            return row[0], ()
        return 0, tuple(one for one in read_sessions(connection, [restored.oid]) if one.pid not in ours)

    waiting = Retrying(
        retry=retry_if_result(lambda found: found != (0, ())),
        stop=stop_after_delay(_EMPTY_SECONDS),
        wait=wait_fixed(0.1),
        retry_error_callback=lambda state: state.outcome.result() if state.outcome else None,
    )
    entering, there = waiting(others)
    if entering or there:
        who = "; ".join(map(str, there)) or f"{entering} sessions that were about to enter"
        raise PermanentError(
            "swap the databases",
            restored.name,
            f"on the copy, which must be compared once more and stay as it is, there still was {who}",
            f"{SERVES} End these sessions, then press Retry",
        )


def unseal(connection: Connection, name: str, oid: int, restore_id: str) -> bool:
    """Given an autocommit session on another database, open the copy if a seal of this restore is on it, and give it its own comment back; tell whether one was.

    Raise psycopg.Error.
    """
    facts = read_database_facts(connection, name)
    seal = None if isinstance(facts, str) or facts.oid != oid else read_seal(facts.comment, oid)
    if seal is None or seal.restore_id != restore_id:
        return False
    with connection.transaction():
        connection.execute(allow_connections(name, allowed=True))
        connection.execute(comment_on(name, seal.comment))
    return True


def unseal_left(login: Database, live: str, restored: Restored, restore_id: str) -> bool:
    """Given the maintenance login, open the copy if a process of this restore that was killed left it sealed; tell whether it did.

    Raise PermanentError when that process is still at work.
    """
    with (
        closing(open_session(login, live)) as connection,
        translated("look whether the copy is open", described(login, restored.name)),
    ):
        facts = read_database_facts(connection, restored.name)
        if isinstance(facts, str) or read_seal(facts.comment, restored.oid) is None:
            return False
    with take_turn(login, live) as connection, translated("open the copy", described(login, restored.name)):
        return unseal(connection, restored.name, restored.oid, restore_id)


def unseal_or_tell(login: Database, live: str, restored: Restored, restore_id: str) -> None:
    """While another error goes on its way: open the copy; where that cannot be done, say in the log that it is closed. A Retry of the run opens it, too."""
    try:
        with (
            closing(open_session(login, live)) as connection,
            translated("open the copy", described(login, restored.name)),
        ):
            unseal(connection, restored.name, restored.oid, restore_id)
    except (NightshiftError, psycopg.Error) as error:
        logger.warning("the copy %s is closed still (%s); its comment says how it is opened", restored.name, error)
