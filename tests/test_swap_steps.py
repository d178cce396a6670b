"""The steps of a swap by themselves, at moments that a whole swap passes too quickly to be met there: each looks again at what may have changed since."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from core.errors import PermanentError
from core.swap_plan import Marker, SwapPlan, marker_text
from tasks import swap as swap_module
from tasks.postgres import Connection
from tasks.swap import swap_databases
from tasks.swap_session import open_session
from tasks.swap_transactions import new_marker, refuse_connections, rename_both, reopen
from tests.fix_swap import COMMENT, Pair, refused

BEGUN = datetime(2026, 1, 2, tzinfo=UTC)


def no_pause(_point: str) -> None:
    pass


@pytest.fixture
def session(pair_15: Pair) -> Iterator[Connection]:
    with closing(open_session(pair_15.login, pair_15.live)) as connection:
        yield connection


def planned(pair: Pair, session: Connection) -> tuple[SwapPlan, Marker]:
    plan = pair.plan()
    return plan, new_marker(session, plan, BEGUN)


def test_a_swap_that_another_one_came_before_closes_nothing(pair_15: Pair, session: Connection) -> None:
    pair = pair_15
    plan, marker = planned(pair, session)
    swap_databases(pair.login, plan, drain_seconds=1)
    with pytest.raises(PermanentError, match="one of them is not the one that was planned with"):
        refuse_connections(session, plan, marker, no_pause)
    with pytest.raises(PermanentError, match="one of them is not the one that was planned with"):
        new_marker(session, plan, BEGUN)
    assert pair.names() == {pair.live: "new", pair.old: "old"}


def test_a_swap_beside_another_one_neither_takes_over_its_marker_nor_opens_what_that_closed(
    pair_15: Pair, session: Connection
) -> None:
    pair = pair_15
    plan, marker = planned(pair, session)
    theirs = marker.model_copy(update={"restore_id": "ffffffff"})
    with closing(open_session(pair.login, pair.live)) as other:
        refuse_connections(other, plan, theirs, no_pause)
    assert refused(pair.server, pair.live)
    with pytest.raises(PermanentError, match="another swap is going on"):
        refuse_connections(session, plan, marker, no_pause)
    assert reopen(session, marker) == "untouched"
    assert refused(pair.server, pair.live)
    assert pair.catalogue(pair.live)[1] == marker_text(theirs)
    assert reopen(session, theirs) == "reopened"
    assert pair.catalogue(pair.live)[:2] == (True, COMMENT)


class _AfterTheLook:
    """A session that does something else once it has looked which database is called what."""

    def __init__(self, connection: Connection, what: Any) -> None:
        self._connection, self._what = connection, what

    def transaction(self) -> Any:
        return self._connection.transaction()

    def execute(self, statement: Any, *arguments: Any) -> Any:
        result = self._connection.execute(statement, *arguments)
        if self._what is not None and "SELECT d.oid, d.datname" in str(statement):
            what, self._what = self._what, None
            what()
        return result


def test_renames_that_are_committed_while_the_way_back_looks_are_seen(pair_15: Pair, session: Connection) -> None:
    pair = pair_15
    plan, marker = planned(pair, session)
    refuse_connections(session, plan, marker, no_pause)
    with closing(open_session(pair.login, pair.live)) as other:
        looking = _AfterTheLook(other, lambda: rename_both(session, plan, marker, no_pause))
        assert reopen(cast("Connection", looking), marker) == "swapped"
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    # Each kept its own comment.
    assert pair.catalogue(pair.live)[:2] == (True, None)
    assert pair.catalogue(pair.old)[:2] == (True, COMMENT)


def test_who_interrupts_a_swap_that_was_just_committed_is_not_told_that_all_went_on(
    pair_15: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = pair_15

    def renamed_and_interrupted(*arguments: Any) -> None:
        rename_both(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(swap_module, "rename_both", renamed_and_interrupted)
    with pytest.raises(KeyboardInterrupt):
        swap_databases(pair.login, pair.plan(), drain_seconds=1)
    assert pair.names() == {pair.live: "new", pair.old: "old"}
    assert pair.catalogue(pair.old)[:2] == (True, COMMENT)
