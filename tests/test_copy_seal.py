"""A copy that is closed while it is compared for a swap, on real servers: who comes, who is there already, who is about to enter, and what a kill leaves."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from multiprocessing.connection import Connection as Pipe

import psycopg
import pytest

from core.copy_seal import SealedCopy, properties_without, read_seal
from core.errors import PermanentError
from core.swap_plan import SwapPlan
from tasks import copy_seal
from tasks.copy_seal import sealed, unseal, unseal_left
from tasks.database_properties import read_properties
from tasks.recording import utc_now
from tasks.restored_session import open_copy
from tasks.swap import recover_swap, swap_databases
from tasks.swap_plans import plan_swap
from tasks.swap_session import open_session
from tests.fix_swap import COMMENT, Pair, refused
from tests.waiting import wait_until


@pytest.fixture(autouse=True)
def opened(pair: Pair) -> Iterator[None]:
    """Whatever a test left closed is open for the next."""
    yield
    recover_swap(pair.login, pair.live)
    unseal_left(pair.login, pair.live, pair.restored(pair.manifest()), pair.restore_id)


def compared(pair: Pair, during: Callable[[], None] = lambda: None) -> SealedCopy:
    """Close the copy, read its one row from within as a comparison does, and leave it closed."""
    copy = pair.server.database(pair.copied)
    restored = pair.restored(pair.manifest())
    with sealed(pair.login, pair.live, copy, restored, pair.restore_id, begun=utc_now(), sessions=2) as (seal, opening):
        with opening() as one, opening() as other:
            assert one is not other
            assert other.execute("SELECT who FROM public.identity").fetchone() == ("new",)
            during()
        with opening() as session:
            properties = properties_without(seal, read_properties(session))
    return SealedCopy(seal=seal, properties=properties)


def planned(pair: Pair, copy: SealedCopy) -> SwapPlan:
    manifest = pair.manifest()
    return plan_swap(
        pair.login, pair.live, pair.copied, pair.restore_id, manifest, restored=pair.restored(manifest), sealed=copy
    )


def test_while_it_is_compared_and_until_it_is_live_nobody_gets_in_not_even_a_superuser(pair: Pair) -> None:
    seen: list[bool] = []
    copy = compared(pair, lambda: seen.append(refused(pair.server, pair.copied)))
    assert (*seen, refused(pair.server, pair.copied)) == (True, True)
    assert not refused(pair.server, pair.live)
    assert "ALLOW_CONNECTIONS true" in (pair.catalogue(pair.copied)[1] or "")
    plan = planned(pair, copy)
    assert (plan.refusals, plan.unaccepted()) == ((), ())
    swap_databases(pair.login, plan, drain_seconds=1)
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    # Each has its own comment again.
    assert pair.catalogue(pair.live)[:2] == (True, None)
    assert pair.catalogue(pair.old)[:2] == (True, COMMENT)


def test_who_opened_it_wrote_and_closed_it_again_stops_the_swap_and_the_live_one_serves(pair: Pair) -> None:
    copy = compared(pair)
    plan = planned(pair, copy)
    pair.server.execute("postgres", f"ALTER DATABASE {pair.copied} ALLOW_CONNECTIONS true")
    pair.server.execute(pair.copied, "CREATE TABLE public.written ()", "DROP TABLE public.written")
    with pytest.raises(PermanentError, match="the copy was opened since it was compared"):
        swap_databases(pair.login, plan, drain_seconds=1)
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)
    assert pair.who(pair.live) == "old"
    # Another comparison is another seal: the first one's plan is worth nothing any more.
    again = compared(pair)
    assert again.seal != copy.seal
    with pytest.raises(PermanentError, match=r"was opened since it was compared|is closed while the restore"):
        swap_databases(pair.login, plan, drain_seconds=1)
    assert pair.who(pair.live) == "old"
    swap_databases(pair.login, planned(pair, again), drain_seconds=1)
    assert pair.who(pair.live) == "new"


def test_who_is_in_it_is_named_and_it_is_open_again(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copy_seal, "_EMPTY_SECONDS", 1)
    with closing(pair.server.connect(pair.copied)) as writer:
        writer.execute("BEGIN")
        with pytest.raises(PermanentError, match=rf"on the copy, .* there still was pid {writer.info.backend_pid} "):
            compared(pair)
        writer.execute("ROLLBACK")
    assert pair.catalogue(pair.copied)[:2] == (True, None)
    # Who leaves in time is waited for.
    monkeypatch.setattr(copy_seal, "_EMPTY_SECONDS", 20)
    leaving = pair.server.connect(pair.copied)
    threading.Timer(1, leaving.close).start()
    assert compared(pair).seal.copied == pair.copied


def test_whatever_fails_within_opens_it_again(pair: Pair) -> None:
    def fails() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compared(pair, fails)
    assert pair.catalogue(pair.copied)[:2] == (True, None)


def test_who_was_about_to_enter_when_it_was_closed_is_waited_for(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is held up at a catalogue that a session reads after it was let in and before it is listed."""
    monkeypatch.setattr(copy_seal, "_EMPTY_SECONDS", 1)
    restored = pair.restored(pair.manifest())
    came: list[psycopg.Connection] = []

    def enter() -> None:
        came.append(pair.server.connect(pair.copied))

    with (
        closing(open_session(pair.login, pair.live)) as connection,
        closing(pair.server.connect()) as holder,
        holder.transaction(),
    ):
        holder.execute("LOCK TABLE pg_catalog.pg_db_role_setting IN ACCESS EXCLUSIVE MODE")
        entering = threading.Thread(target=enter)
        entering.start()
        wait_until(lambda: connection.execute(copy_seal._ENTERING, (restored.oid,)).fetchone() == (1,), "it enters")
        copy_seal._close(connection, restored, pair.restore_id, utc_now())
        with pytest.raises(PermanentError, match="1 sessions that were about to enter"):
            copy_seal._wait_for_others(connection, restored, [])
    entering.join(20)
    with closing(came[0]), closing(open_session(pair.login, pair.live)) as connection:
        with pytest.raises(PermanentError, match=f"there still was pid {came[0].info.backend_pid} "):
            copy_seal._wait_for_others(connection, restored, [])
        assert unseal(connection, restored.name, restored.oid, pair.restore_id)
    assert pair.catalogue(pair.copied)[:2] == (True, None)


def _compare_for_ever(pair: Pair, pipe: Pipe) -> None:
    def wait() -> None:
        pipe.send("within")
        time.sleep(60)

    compared(pair, wait)


def test_a_kill_leaves_it_closed_and_its_retry_opens_it_but_not_while_it_is_at_work(pair: Pair) -> None:
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=_compare_for_ever, args=(pair, theirs))
    child.start()
    restored = pair.restored(pair.manifest())
    try:
        assert ours.poll(30)
        with pytest.raises(PermanentError, match="another swap, undo or recovery of this database is going on"):
            unseal_left(pair.login, pair.live, restored, pair.restore_id)
    finally:
        assert child.pid is not None
        with suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        child.join(20)
    assert refused(pair.server, pair.copied)
    assert not refused(pair.server, pair.live)
    seal = read_seal(pair.catalogue(pair.copied)[1], restored.oid)
    assert seal is not None
    # Another restore's run leaves it as it is.
    assert not unseal_left(pair.login, pair.live, restored, "ffffffff")
    assert refused(pair.server, pair.copied)
    assert unseal_left(pair.login, pair.live, restored, pair.restore_id)
    assert pair.catalogue(pair.copied)[:2] == (True, None)
    assert not unseal_left(pair.login, pair.live, restored, pair.restore_id)


def test_the_way_back_in_its_comment_opens_it(pair: Pair) -> None:
    way_back = compared(pair).seal.way_back
    for statement in way_back.split(";"):
        if statement.strip():
            pair.server.execute("postgres", statement)
    assert pair.catalogue(pair.copied)[:2] == (True, None)


def test_another_database_of_its_name_is_not_closed(pair: Pair) -> None:
    restored = pair.restored(pair.manifest()).model_copy(update={"oid": 1})
    with (
        closing(open_session(pair.login, pair.live)) as connection,
        pytest.raises(PermanentError, match="not the database that was restored"),
    ):
        copy_seal._close(connection, restored, pair.restore_id, utc_now())
    assert pair.catalogue(pair.copied)[:2] == (True, None)
    with pytest.raises(PermanentError, match="the copy has oid 1 on system"):
        open_copy(pair.server.database(pair.copied), restored, purpose="verify")
