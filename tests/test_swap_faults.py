"""Swaps that go wrong at each step: killed, interrupted, cut off, held up. The live database is afterwards the old one or the new one, open either way."""

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from multiprocessing.connection import Connection as Pipe

import psycopg
import pytest

from core.errors import PermanentError, TemporaryError
from core.swap_plan import SwapPlan
from tasks.swap import recover_swap, swap_databases, undo_swap
from tests.fix_proxy import BLOCK_BYTES, TcpProxy
from tests.fix_swap import COMMENT, Pair, refused
from tests.waiting import wait_until

# Minutes of faults on real servers: make test-services.
pytestmark = pytest.mark.services

NewRole = Callable[..., tuple[str, str]]
STEPS = ("begun", "marked", "refusing", "drained", "renamed", "swapped")
CLOSED = {"refusing", "drained", "renamed"}


def _swap_until(step: str, pair: Pair, plan: SwapPlan, pipe: Pipe) -> None:
    def pause(point: str) -> None:
        if point == step:
            pipe.send(point)
            time.sleep(60)

    swap_databases(pair.login, plan, drain_seconds=5, pause=pause)


def kill_at(step: str, pair: Pair, plan: SwapPlan) -> None:
    """Swap in another process, and end that by SIGKILL when it has come so far."""
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_swap_until, args=(step, pair, plan, theirs))
    child.start()
    try:
        assert ours.poll(30), f"the swap did not come to {step!r}"
        assert ours.recv() == step
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(20)
    assert child.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_the_live_database_is_the_old_or_the_new_one_and_the_next_call_opens_it(
    step: str, pair: Pair
) -> None:
    plan = pair.plan()
    kill_at(step, pair, plan)
    assert refused(pair.server, pair.live) == (step in CLOSED)
    # Nobody gets into the copy between its verification and its new name.
    assert refused(pair.server, pair.copied if step != "swapped" else pair.live) == (step in CLOSED)
    if step in CLOSED:
        # Whoever looks is told how to go on: the plan, and the comment itself.
        assert (
            f'in psql on another database: ALTER DATABASE "{pair.live}" ALLOW_CONNECTIONS true'
            in _plan_now(pair, plan).refusals[0]
        )
        assert "ALLOW_CONNECTIONS true" in (pair.catalogue(pair.live)[1] or "")
    recovered = recover_swap(pair.login, pair.live)
    assert recovered.reopened == (step in CLOSED)
    if step == "swapped":
        assert pair.names() == {pair.live: "new", pair.old: "old"}
        return
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    assert pair.catalogue(pair.copied)[:2] == (True, None)
    assert recover_swap(pair.login, pair.live).reopened is False


def _plan_now(pair: Pair, plan: SwapPlan) -> SwapPlan:
    from tasks.swap_plans import plan_undo

    # The pair's own plan connects to the live database, which is closed; the reverse's looks at the same things.
    return plan_undo(pair.login, plan.live, plan.copy_name, plan.restore_id)


def test_the_next_swap_recovers_by_itself(pair_15: Pair) -> None:
    pair = pair_15
    plan = pair.plan()
    kill_at("drained", pair, plan)
    assert swap_databases(pair.login, plan, drain_seconds=1).old_name == pair.old
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    assert pair.catalogue(pair.old)[:2] == (True, COMMENT)


def test_an_undo_recovers_by_itself(pair_15: Pair) -> None:
    pair = pair_15
    swap_databases(pair.login, pair.plan(), drain_seconds=1)

    def die(point: str) -> None:
        if point == "drained":
            pipe.send(point)
            time.sleep(60)

    ours, pipe = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=undo_swap,
        args=(pair.login, pair.live, pair.old, pair.restore_id),
        kwargs={"drain_seconds": 5, "pause": die},
    )
    child.start()
    assert ours.poll(30)
    child.kill()
    child.join(20)
    assert refused(pair.server, pair.live)
    undo_swap(pair.login, pair.live, pair.old, pair.restore_id, drain_seconds=1)
    assert pair.names() == {pair.live: "old", pair.undone: "new"}


def test_a_session_that_will_not_leave_ends_the_swap_and_the_live_one_serves_on(
    pair: Pair, fresh_role: NewRole
) -> None:
    owner, password = fresh_role(pair.server, "CREATEDB")
    login = pair.server.database("postgres", user=owner, password=password)
    # The clock runs fast, so that nobody waits for the whole grace.
    begun = time.monotonic()
    with pair.owned_by(owner), pair.server.connect(pair.live) as stubborn:
        stubborn.execute("SET application_name = 'cron of the platform'")
        plan = pair.plan(login)
        assert "the swap is given up unless these leave by themselves" in plan.notes[0]
        with pytest.raises(PermanentError) as caught:
            swap_databases(login, plan, drain_seconds=2, clock=lambda: (time.monotonic() - begun) * 20)
        message = str(caught.value)
        assert f"pid {stubborn.info.backend_pid} (user postgres, application cron of the platform, " in message
        assert "which our role may not end" in message
        assert "The live database serves as before" in message
        assert stubborn.execute("SELECT who FROM public.identity").fetchone() == ("old",)
        assert pair.names() == {pair.live: "old", pair.copied: "new"}
        assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
        stubborn.close()
        swap_databases(login, plan, drain_seconds=2)
        assert pair.names() == {pair.live: "new", pair.old: "old"}


@pytest.mark.parametrize(
    ("step", "error"),
    [("marked", ValueError), ("refusing", KeyboardInterrupt), ("drained", ValueError), ("renamed", KeyboardInterrupt)],
)
def test_any_error_between_opens_the_live_database_at_once(
    step: str, error: type[BaseException], pair_15: Pair
) -> None:
    pair = pair_15

    def pause(point: str) -> None:
        if point == step:
            raise error

    with pytest.raises(error):
        swap_databases(pair.login, pair.plan(), drain_seconds=1, pause=pause)
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    assert pair.catalogue(pair.copied)[:2] == (True, None)


@pytest.mark.parametrize("step", ["refusing", "drained", "renamed"])
def test_a_lost_connection_opens_the_live_database_through_a_new_one(step: str, pair_15: Pair) -> None:
    pair = pair_15

    def pause(point: str) -> None:
        if point == step:
            pair.server.execute(
                "postgres",
                f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightshift swap {pair.live}'",  # noqa: S608
            )

    with pytest.raises(TemporaryError, match="The live database serves as before"):
        swap_databases(pair.login, pair.plan(), drain_seconds=1, pause=pause)
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)


class SwallowingProxy(TcpProxy):
    """Passes all on to the server; once asked to, it keeps the server's next answer to itself and breaks the connection."""

    swallow = False

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                if counted and self.swallow:
                    self.swallow = False
                    self.cut()
                    break
                target.sendall(block)
        for connection in (source, target):
            connection.close()


def test_renames_whose_answer_was_lost_are_seen_to_be_done(pair_15: Pair) -> None:
    pair = pair_15
    plan = pair.plan()
    proxy = SwallowingProxy(pair.server.port)
    login = pair.login.model_copy(update={"port": proxy.port})

    def pause(point: str) -> None:
        if point == "renamed":
            proxy.swallow = True

    try:
        outcome = swap_databases(login, plan, drain_seconds=1, pause=pause)
    finally:
        proxy.close()
    assert outcome.notes == ("the connection was lost while the renames were committed; they were",)
    assert pair.names() == {pair.live: "new", pair.old: "old"}


def test_a_lock_that_somebody_else_holds_ends_the_swap_and_the_live_one_serves_on(
    pair_15: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.swap_session._LOCK_SECONDS", 0.3)
    pair = pair_15
    plan = pair.plan()
    holder = pair.server.connect(autocommit=False)
    timed_out = pair.server.log.count("lock timeout")

    def hold_until_one_has_timed_out() -> None:
        # This holds up the way back too, which is tried until it succeeds.
        wait_until(lambda: pair.server.log.count("lock timeout") > timed_out, "the lock is not had")
        holder.rollback()

    let_go = threading.Thread(target=hold_until_one_has_timed_out)

    def pause(point: str) -> None:
        if point == "drained":
            holder.execute(f"GRANT CONNECT ON DATABASE {pair.live} TO pg_monitor")  # type: ignore[call-overload]
            let_go.start()

    with closing(holder):
        with pytest.raises(PermanentError, match=r"lock timeout.* The live database serves as before"):
            swap_databases(pair.login, plan, drain_seconds=1, pause=pause)
        let_go.join()
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)


def test_two_swaps_of_one_database_do_not_meet(
    pair_15: Pair, monkeypatch: pytest.MonkeyPatch, fresh_database: Callable[..., str]
) -> None:
    monkeypatch.setattr("tasks.swap_session._TURN_SECONDS", 0.2)
    pair = pair_15
    plan = pair.plan()
    elsewhere = pair.server.database(fresh_database(pair.server))

    def pause(point: str) -> None:
        if point in {"begun", "drained"}:
            for call in (
                lambda: swap_databases(pair.login, plan, drain_seconds=1),
                lambda: recover_swap(pair.login, pair.live),
            ):
                with pytest.raises(PermanentError, match="another swap, undo or recovery of this database is going on"):
                    call()
        if point == "begun":
            # Advisory locks are a database's own: through another maintenance database the second is the quicker, and the first sees it.
            swap_databases(elsewhere, plan, drain_seconds=1)

    with pytest.raises(PermanentError, match="one of them is not the one that was planned with"):
        swap_databases(pair.login, plan, drain_seconds=1, pause=pause)
    assert pair.names() == {pair.live: "new", pair.old: "old"}


def test_a_database_that_is_closed_for_another_reason_stays_closed(pair_15: Pair) -> None:
    pair = pair_15
    pair.server.execute("postgres", f"ALTER DATABASE {pair.live} ALLOW_CONNECTIONS false")
    with pytest.raises(PermanentError, match="no swap says that it did that"):
        recover_swap(pair.login, pair.live)
    assert refused(pair.server, pair.live)
    pair.server.execute("postgres", f"ALTER DATABASE {pair.live} ALLOW_CONNECTIONS true")
    assert recover_swap(pair.login, "not_there").found == "there is no database not_there"


def test_a_late_session_is_drained_like_the_others(pair_15: Pair) -> None:
    """A session that had begun to connect before connections were refused: after the drain the gate is opened for it on purpose."""
    pair = pair_15
    plan = pair.plan()
    late: list[psycopg.Connection[tuple[object, ...]]] = []
    lock = threading.Lock()

    def pause(point: str) -> None:
        with lock:
            if point == "drained" and not late:
                pair.server.execute("postgres", f"ALTER DATABASE {pair.live} ALLOW_CONNECTIONS true")
                late.append(pair.server.connect(pair.live))
                pair.server.execute("postgres", f"ALTER DATABASE {pair.live} ALLOW_CONNECTIONS false")

    outcome = swap_databases(pair.login, plan, drain_seconds=60, pause=pause)
    assert [session.pid for session in outcome.terminated] == [late[0].info.backend_pid]
    # It had its chance: connections have been refused for as long as anybody was waited for.
    assert outcome.drain_ms < 30_000
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    late[0].close()
