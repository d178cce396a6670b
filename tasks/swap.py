"""Exchange of the live database for a verified copy on the same server, by renaming both; its reverse; and the way back after a killed process.

A swap (PostgreSQL manual, ALTER DATABASE):

0. The copy is closed already, since before its last comparison (tasks.copy_seal): nobody can have written to it since.
1. Connections to both are refused, and the live one's comment says so: one transaction. The outage begins.
2. Sessions may leave by themselves for a while, then they are ended.
3. Both are renamed, opened, and the comment is put back: one transaction. The outage ends.

Any error between 1 and 3 opens the live database again at once. A process that is killed there leaves the comment, which `recover_swap`
reads; each swap and undo does so first.

The old database keeps its privileges, its settings and its open door under its new name. Closing it would keep an operator from reading what it holds, just when
that is the question; revoking CONNECT would change the privileges with which an undo must give it back. Nobody gets there by mistake, since no application knows
the new name.

A client that connects in the moment of step 3 waits for it and is then told, once, that the database was renamed or dropped (SQLSTATE 3D000).
"""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from core.environment_database import Database
from core.errors import PermanentError, TemporaryError
from core.swap_plan import (
    Session,
    SwapOutcome,
    SwapPlan,
    SwapRecovery,
)
from tasks.postgres import Connection, translate, translated
from tasks.swap_facts import look, read_sessions
from tasks.swap_plans import look_back
from tasks.swap_recovery import go_back, recover
from tasks.swap_session import described, take_turn
from tasks.swap_transactions import SERVES, OnWait, Patience, Pause, drain, new_marker, refuse_connections, rename_both

# A session that had begun to connect when connections were refused shows up late, and the rename then fails: it is drained like the others.
_RENAMES = 2


def _utc_now() -> datetime:
    return datetime.now(UTC)


def _tell_nobody(_sessions: tuple[Session, ...]) -> None:
    pass


def _no_pause(_point: str) -> None:
    pass


def swap_databases(
    login: Database,
    plan: SwapPlan,
    *,
    drain_seconds: float,
    accepted: Collection[str] = (),
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = _utc_now,
    on_wait: OnWait = _tell_nobody,
    pause: Pause = _no_pause,
) -> SwapOutcome:
    """Given a login of another database of the server and a plan, swap the databases. Everything is looked at again first, since the plan may be a day old.

    `drain_seconds`: how long sessions may take to leave by themselves. `accepted`: topics of differences that an operator wants in spite of all. `on_wait` is told who is
    still there. `pause` is called at "begun", "marked", "refusing", "drained", "renamed" and "swapped".

    Raise PermanentError when the plan or the world forbids it, or a session will not leave; TemporaryError when the server is lost. The live database then serves as
    before; where even that could not be had, the error says which statement opens it.
    """
    _refuse(plan, accepted)
    with take_turn(login, plan.live) as connection:
        recover(connection, login, plan.live)
        again = look(
            connection,
            login,
            plan.live,
            plan.copy_name,
            old_name=plan.old_name,
            restore_id=plan.restore_id,
            recorded=plan.recorded,
            sealed=plan.sealed,
        )
        _refuse(again, accepted)
        if (again.system_identifier, again.live_oid, again.copy_oid) != (
            plan.system_identifier,
            plan.live_oid,
            plan.copy_oid,
        ):
            found = "the server or one of the databases is not the one that the plan was made with"
            raise PermanentError("swap the databases", described(login, plan.live), found, "Make a new plan.")
        return _swap(connection, login, again, Patience(drain_seconds, clock, sleep, on_wait), now(), pause=pause)


def undo_swap(
    login: Database,
    live: str,
    old: str,
    restore_id: str,
    *,
    drain_seconds: float,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = _utc_now,
    on_wait: OnWait = _tell_nobody,
    pause: Pause = _no_pause,
) -> SwapOutcome:
    """Given a login of another database of the server, the live database's name, that of the old one and the restore's id, make the old one live again.

    What was written since the swap stays in the other, which is then called `NAME_undone_RESTOREID` and is kept. Otherwise as `swap_databases`.
    """
    with take_turn(login, live) as connection:
        recover(connection, login, live)
        plan = look_back(connection, login, live, old, restore_id)
        if not plan.copy_oid:
            raise PermanentError(
                "undo the swap",
                described(login, live),
                f"the old database {old} is gone: it was dropped or renamed",
                "If it was renamed, name it as it is called now; else restore the last backup that was made before the swap.",
            )
        _refuse(plan)
        return _swap(connection, login, plan, Patience(drain_seconds, clock, sleep, on_wait), now(), pause=pause)


def recover_swap(login: Database, live: str) -> SwapRecovery:
    """Given a login of another database of the server and the live database's name, open it again if a swap of it was killed. Harmless at any other time.

    Raise PermanentError when a swap of it is going on, or it refuses connections for another reason.
    """
    with take_turn(login, live) as connection:
        return recover(connection, login, live)


def _refuse(plan: SwapPlan, accepted: Collection[str] = ()) -> None:
    if plan.refusals:
        raise PermanentError("swap the databases", f"{plan.live} and {plan.copy_name}", "; ".join(plan.refusals))
    if stopping := plan.unaccepted(accepted):
        raise PermanentError(
            "swap the databases",
            f"{plan.live} and {plan.copy_name}",
            "; ".join(map(str, stopping)),
            f"Make them equal, or accept what differs by name: {', '.join(difference.topic for difference in stopping)}.",
        )


def _swap(
    connection: Connection,
    login: Database,
    plan: SwapPlan,
    patience: Patience,
    begun: datetime,
    *,
    pause: Pause,
) -> SwapOutcome:
    pause("begun")
    with translated("begin the swap", described(login, plan.live)):
        marker = new_marker(connection, plan, begun)
    clock = patience.clock
    drained: list[float] = []
    first: tuple[Session, ...] = ()
    terminated: tuple[Session, ...] = ()
    notes: tuple[str, ...] = ()
    began = clock()

    def empty_and_rename() -> None:
        nonlocal first, terminated
        waiting = clock()
        _refuse_writers(connection, plan)
        there, ended = drain(connection, plan, replace(patience, seconds=0) if drained else patience)
        first, terminated = (*first, *there), (*terminated, *ended)
        drained.append(clock() - waiting)
        pause("drained")
        rename_both(connection, plan, marker, pause)

    try:
        refuse_connections(connection, plan, marker, pause)
        Retrying(
            retry=retry_if_exception_type(psycopg.errors.ObjectInUse), stop=stop_after_attempt(_RENAMES), reraise=True
        )(empty_and_rename)
    except BaseException as error:
        if go_back(login, connection, marker, error) != "swapped" or not isinstance(error, psycopg.Error):
            if isinstance(error, psycopg.Error):
                raise _given_up(error, login, plan) from error
            raise
        notes = ("the connection was lost while the renames were committed; they were",)
    ended_at = clock()
    pause("swapped")
    return SwapOutcome(
        live=plan.live,
        live_oid=plan.copy_oid,
        old_name=plan.old_name,
        old_oid=plan.live_oid,
        outage_ms=round((ended_at - began - sum(drained)) * 1000),
        drain_ms=round(sum(drained) * 1000),
        sessions=first,
        terminated=terminated,
        notes=notes,
    )


def _refuse_writers(connection: Connection, plan: SwapPlan) -> None:
    """Raise PermanentError when somebody is connected to a copy that was compared with its backup a moment ago: what they write until they leave, nobody compares."""
    if plan.recorded is None:
        return
    # Our own, which only read, may take a moment to end.
    there = [one for one in read_sessions(connection, [plan.copy_oid]) if not one.application.startswith("nightshift ")]
    if there:
        raise PermanentError(
            "swap the databases",
            f"{plan.live} and {plan.copy_name}",
            f"on the copy, which was verified and must stay as it is, there still was {'; '.join(map(str, there))}",
            f"{SERVES} End these sessions, then press Retry: the copy is verified again before the next attempt",
        )


def _given_up(error: psycopg.Error, login: Database, plan: SwapPlan) -> PermanentError | TemporaryError:
    if isinstance(error, psycopg.errors.ObjectInUse | psycopg.errors.LockNotAvailable):
        found = " ".join(filter(None, (error.diag.message_primary, error.diag.message_detail)))
        return PermanentError(
            "swap the databases", described(login, plan.live), found, f"{SERVES} End what holds it, then swap again."
        )
    meaning = translate(error, "swap the databases", described(login, plan.live))
    kind = TemporaryError if isinstance(meaning, TemporaryError) else PermanentError
    return kind(meaning.attempted, meaning.on, meaning.found, f"{SERVES} {meaning.next_step}")
