"""The process of a swap is killed while the live database is closed: another one opens it again, without anybody's doing."""

import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection as Pipe

import pytest

from core.errors import TemporaryError
from core.swap_plan import SwapPlan
from tasks.swap import swap_databases, undo_swap
from tasks.swap_guard import guarded
from tests.fix_swap import COMMENT, Pair, refused
from tests.waiting import wait_until


def _swap_until(step: str, pair: Pair, plan: SwapPlan, told: Pipe) -> None:
    def pause(point: str) -> None:
        if point == step:
            told.send(point)
            time.sleep(120)

    with guarded(pair.login, pair.live):
        swap_databases(pair.login, plan, drain_seconds=5, pause=pause)


@pytest.mark.parametrize("step", ["refusing", "drained"])
def test_a_guard_opens_the_live_database_when_the_swap_is_killed(step: str, pair_15: Pair) -> None:
    pair, plan = pair_15, pair_15.plan()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_swap_until, args=(step, pair, plan, theirs))
    child.start()
    try:
        assert ours.poll(60)
        assert refused(pair.server, pair.live)
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join(20)
    wait_until(lambda: not refused(pair.server, pair.live), "the live database is open")
    assert pair.names() == {pair.live: "old", pair.copied: "new"}
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    assert pair.catalogue(pair.copied)[:2] == (True, None)


def test_a_guarded_swap_and_its_undoing_end_as_others_do(pair_15: Pair) -> None:
    pair = pair_15
    with guarded(pair.login, pair.live):
        swap_databases(pair.login, pair.plan(), drain_seconds=1)
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    with guarded(pair.login, pair.live):
        undo_swap(pair.login, pair.live, pair.old, pair.restore_id, drain_seconds=1)
    assert pair.names() == {pair.live: "old", pair.undone: "new"}


def test_a_swap_that_fails_and_cannot_open_the_live_database_itself_has_it_opened(pair_15: Pair) -> None:
    pair, plan = pair_15, pair_15.plan()
    ours, theirs = multiprocessing.Pipe()

    def fail_half_way() -> None:
        # As a swap leaves it whose server stays away longer than its own way back is tried.
        child = multiprocessing.get_context("fork").Process(target=_left_closed, args=(pair, plan, theirs))
        child.start()
        assert ours.poll(60)
        child.kill()
        child.join(20)
        assert refused(pair.server, pair.live)
        raise TemporaryError("swap", pair.live, "the server was lost")

    with pytest.raises(TemporaryError, match="the server was lost"), guarded(pair.login, pair.live):
        fail_half_way()
    assert not refused(pair.server, pair.live)
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)


def _left_closed(pair: Pair, plan: SwapPlan, told: Pipe) -> None:
    def pause(point: str) -> None:
        if point == "drained":
            told.send(point)
            time.sleep(120)

    swap_databases(pair.login, plan, drain_seconds=5, pause=pause)


def test_no_swap_begins_without_its_guard(pair_15: Pair) -> None:
    nowhere = pair_15.login.model_copy(update={"password": None, "user": "nobody-at-all"})
    with (
        pytest.raises(TemporaryError, match="the guard that would open it again did not start: could not connect"),
        guarded(nowhere, pair_15.live),
    ):
        pytest.fail("the block was entered")
