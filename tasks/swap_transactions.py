"""The three things that a swap does to the server: refuse connections and say so, wait for sessions to go, rename both in one transaction; and the way back.

Whatever happens between, the live database is in one of three states, each left by one commit: untouched; refusing connections with a marker in its comment; swapped.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import sql
from tenacity import RetryCallState, Retrying, retry_if_result, wait_fixed

from core.copy_seal import Seal, read_seal
from core.errors import PermanentError
from core.swap_plan import Marker, Session, SwapPlan, marker_text, read_marker
from tasks.postgres import Connection
from tasks.swap_facts import PREFLIGHT, read_database_facts, read_sessions

State = Literal["untouched", "reopened", "swapped"]
OnWait = Callable[[tuple[Session, ...]], None]
Pause = Callable[[str], None]

_POLL_SECONDS = 0.1
# A session that was told to end does so at its next check for interrupts; one that has not by then hangs in the system or in foreign code.
TERMINATE_SECONDS = 5
SERVES = "The live database serves as before."


def new_marker(connection: Connection, plan: SwapPlan, begun: datetime) -> Marker:
    """Given a session, a plan and the time, return the marker for the live database's comment. Raise PermanentError when the databases are not the plan's."""
    live, incoming = read_database_facts(connection, plan.live), read_database_facts(connection, plan.copy_name)
    if isinstance(live, str) or isinstance(incoming, str) or (live.oid, incoming.oid) != (plan.live_oid, plan.copy_oid):
        raise _changed(plan)
    return Marker(
        restore_id=plan.restore_id,
        live=plan.live,
        live_oid=plan.live_oid,
        copied=plan.copy_name,
        copied_oid=plan.copy_oid,
        comment=live.comment,
        begun=begun,
        way_back=f"{allow_connections(plan.live, allowed=True).as_string(connection)}; {comment_on(plan.live, live.comment).as_string(connection)};",
    )


def refuse_connections(connection: Connection, plan: SwapPlan, marker: Marker, pause: Pause) -> None:
    """Given an autocommit session, a plan and its marker, make both databases refuse new connections and put the marker into the live one's comment, in one transaction.

    ALLOW_CONNECTIONS false holds for superusers too (CheckMyDatabase, postinit.c); a connection limit of 0 would not. Sessions that are there stay. The copy refuses
    as well: mostly it is closed by a seal since its comparison, which is taken away here. Raise PermanentError when another swap was quicker or the seal is not there,
    psycopg.Error otherwise.
    """
    with connection.transaction():
        connection.execute(allow_connections(plan.live, allowed=False))
        # Only now, since the statement before has locked the row: whoever swaps through another maintenance database shares no advisory lock with us.
        facts = read_database_facts(connection, plan.live)
        if isinstance(facts, str) or (facts.oid, facts.comment) != (marker.live_oid, marker.comment):
            raise _changed(plan)
        connection.execute(comment_on(plan.live, marker_text(marker)))
        if plan.sealed is not None:
            require_sealed(connection, plan.sealed.seal)
            connection.execute(comment_on(plan.copy_name, plan.sealed.seal.comment))
        connection.execute(allow_connections(plan.copy_name, allowed=False))
        pause("marked")
    pause("refusing")


def require_sealed(connection: Connection, seal: Seal) -> None:
    """Given an autocommit session on another database, raise PermanentError unless the copy is closed by this very seal. Raise psycopg.Error."""
    facts = read_database_facts(connection, seal.copied)
    if isinstance(facts, str) or facts.allow_connections or read_seal(facts.comment, facts.oid) != seal:
        raise PermanentError(
            "swap the databases",
            seal.copied,
            "the copy was opened since it was compared: somebody may have written to it",
            f"{SERVES} Press Retry: the copy is compared again before the next attempt",
        )


@dataclass(frozen=True)
class Patience:
    """How long sessions may take to leave by themselves, in seconds of `clock`, and who is told about it while it lasts."""

    seconds: float
    clock: Callable[[], float]
    sleep: Callable[[float], None]
    on_wait: OnWait


def drain(
    connection: Connection, plan: SwapPlan, patience: Patience
) -> tuple[tuple[Session, ...], tuple[Session, ...]]:
    """Given a session on another database, wait for the sessions on both to leave by themselves, then end those that are left. Return who was
    there at first, and who had to be ended.

    `patience.on_wait` is told who is there, at first and whenever that changes. Raise PermanentError naming those who can neither wait nor be ended.
    """
    oids = (plan.live_oid, plan.copy_oid)
    present = read_sessions(connection, oids)
    told: set[int] = set()
    left = _wait_for_none(connection, oids, patience, told) if present else ()
    for session in left:
        # Not ours to end, as `terminable` says; its neighbours are ended nevertheless, and it may leave yet.
        with suppress(psycopg.errors.InsufficientPrivilege):
            # By database as well: the number may be another process's by now.
            connection.execute(
                "SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_activity AS a WHERE a.pid = %s AND a.datid = ANY (%s)",
                (session.pid, list(oids)),
            )
    stayed = _wait_for_none(connection, oids, replace(patience, seconds=TERMINATE_SECONDS), told) if left else ()
    if stayed:
        raise PermanentError(
            "empty the databases of their sessions",
            f"{plan.live} and {plan.copy_name}",
            f"after {patience.seconds:g} s, and after they were told to end, there still was {'; '.join(map(str, stayed))}",
            f"{SERVES} End these sessions where they come from, or let a role that may (a superuser's session: a superuser) end them; then swap again.",
        )
    return _of_others(present), left


def _of_others(sessions: Sequence[Session]) -> tuple[Session, ...]:
    return tuple(session for session in sessions if session.application != PREFLIGHT)


def _wait_for_none(
    connection: Connection, oids: Sequence[int], patience: Patience, told: set[int]
) -> tuple[Session, ...]:
    """Wait until no session is left, at most so many seconds; return those that are. `told` are the processes that were last told of."""
    deadline = patience.clock() + patience.seconds

    def ask() -> tuple[Session, ...]:
        sessions = read_sessions(connection, oids)
        others = _of_others(sessions)
        if (pids := {session.pid for session in others}) != told:
            told.clear()
            told.update(pids)
            patience.on_wait(others)
        return sessions

    def last(state: RetryCallState) -> tuple[Session, ...]:
        sessions: tuple[Session, ...] = state.outcome.result() if state.outcome else ()
        return sessions

    asking: Retrying = Retrying(
        retry=retry_if_result(bool),
        stop=lambda _state: patience.clock() >= deadline,
        wait=wait_fixed(_POLL_SECONDS),
        sleep=patience.sleep,
        retry_error_callback=last,
    )
    return asking(ask)


def rename_both(connection: Connection, plan: SwapPlan, marker: Marker, pause: Pause) -> None:
    """Given an autocommit session and databases without sessions, give both their new names, take the marker away and open both, in one transaction.

    PostgreSQL waits up to 5 s for sessions that appear nevertheless. Raise psycopg.Error; then nothing was renamed, unless the connection was lost.
    """
    with connection.transaction():
        # Whoever connects now waits for these locks, and is told that the database was renamed; the storm of those who are refused cannot hold them up.
        connection.execute(_rename(plan.live, plan.old_name))
        connection.execute(_rename(plan.copy_name, plan.live))
        connection.execute(comment_on(plan.old_name, marker.comment))
        connection.execute(allow_connections(plan.old_name, allowed=True))
        connection.execute(allow_connections(plan.live, allowed=True))
        pause("renamed")


def reopen(connection: Connection, marker: Marker) -> State:
    """Given an autocommit session and a marker, return `untouched` when it is not on the live database, `swapped` when the renames were committed after all, and else
    open both databases, put the comment back and return `reopened`. Raise psycopg.Error, PermanentError when the database is neither."""
    with connection.transaction():
        rows = connection.execute(
            "SELECT d.oid, d.datname, pg_catalog.shobj_description(d.oid, 'pg_database') FROM pg_catalog.pg_database AS d WHERE d.oid = ANY (%s)",
            ([marker.live_oid, marker.copied_oid],),
        ).fetchall()
        names = {oid: name for oid, name, _ in rows}
        comments = {oid: comment for oid, _, comment in rows}
        if names.get(marker.live_oid) != marker.live:
            if names.get(marker.copied_oid) == marker.live:
                return "swapped"
            raise PermanentError(
                "find the live database again",
                marker.live,
                f"the database with oid {marker.live_oid} is now called {names.get(marker.live_oid, 'nothing: it was dropped')}",
                "Somebody else renamed it: look at the server's log.",
            )
        if read_marker(comments[marker.live_oid], marker.live_oid) != marker:
            return "untouched"
        connection.execute(allow_connections(marker.live, allowed=True))
        # Only now, since the statement before has waited for renames whose commit was on its way; the name may be the copy's by now.
        facts = read_database_facts(connection, marker.live)
        if isinstance(facts, str) or facts.oid != marker.live_oid:
            return "swapped"
        connection.execute(comment_on(marker.live, marker.comment))
        if marker.copied_oid in names:
            connection.execute(allow_connections(names[marker.copied_oid], allowed=True))
    return "reopened"


def _changed(plan: SwapPlan) -> PermanentError:
    return PermanentError(
        "swap the databases",
        f"{plan.live} and {plan.copy_name}",
        "one of them is not the one that was planned with, or another swap is going on",
        "Nothing was swapped. Make a new plan.",
    )


def allow_connections(name: str, *, allowed: bool) -> sql.Composed:
    """Return ALTER DATABASE … ALLOW_CONNECTIONS."""
    return sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(
        sql.Identifier(name), sql.SQL("true" if allowed else "false")
    )


def comment_on(name: str, comment: str | None) -> sql.Composed:
    """Return COMMENT ON DATABASE; None takes the comment away."""
    return sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment))


def _rename(name: str, new_name: str) -> sql.Composed:
    return sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new_name))
