"""What a watch does about what it found: each thing once, nothing by chance, and nothing taken back by a quiet evening."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.watch_decision import (
    DEGRADED,
    ROLLBACK,
    STOPPED,
    SUSPECT,
    Trouble,
    act_on,
    blind_since,
    final_judgement,
    how_it_ended,
    trouble_of,
)
from core.watch_record import WatchMark
from core.watch_verdict import Judgement
from tests.fix_counts import plain_day

WORSE = Trouble(("errors: E = 900 ≥ 40 after bucket 7",))
SUSPECTED = Trouble(("errors: looks worse",), worse=False, lasts=False)
OVER = Trouble(WORSE.why, lasts=False)
HEALTHY = Judgement("healthy", ("errors: a factor of 2 would have been found",))
WORSE_DAY = Judgement("degraded", WORSE.why, lasts=True)


def act(trouble: Trouble | None = WORSE, **given_: object) -> str:
    settings = {"policy": "roll-back", "hours": 1.0, "roll_back_hours": 22, "marks": (), "way_back": "", **given_}
    return act_on(trouble, **settings)  # type: ignore[arg-type]


def mark(what: str, by: str = "run-1", why: str = "it was worse") -> WatchMark:
    return WatchMark(
        environment="stage", release_id="r-1", what=what, at=datetime(2026, 11, 12, tzinfo=UTC), by=by, why=why
    )


def test_what_is_worse_is_told_and_taken_back_only_where_the_environment_says_so() -> None:
    assert act(policy="alert") == "tell"
    assert act() == "roll back"


def test_after_the_hours_and_without_a_way_back_it_is_advised_to_go_forward() -> None:
    assert act(hours=22.0) == "go forward"
    assert act(way_back="api-blue was retired: it has no Pods") == "go forward"


def test_each_thing_is_done_once() -> None:
    assert act(policy="alert", marks={DEGRADED}) == "nothing"
    assert act(marks={DEGRADED, ROLLBACK}) == "nothing"
    assert act(marks={ROLLBACK}) == "nothing"
    assert act(hours=23.0, marks={DEGRADED}) == "nothing"


def test_what_was_only_told_is_taken_back_once_the_way_is_free() -> None:
    assert act(marks={DEGRADED}) == "roll back"


@given(
    policy=st.sampled_from(["alert", "roll-back"]),
    hours=st.floats(0, 30),
    limit=st.integers(1, 24),
    marks=st.sets(st.sampled_from([DEGRADED, ROLLBACK, STOPPED])),
    way=st.sampled_from(["", "gone"]),
    trouble=st.sampled_from([None, WORSE, SUSPECTED, OVER]),
)
def test_nothing_is_taken_back_without_trouble_consent_time_and_a_way(  # noqa: PLR0917 - drawn
    policy: str, hours: float, limit: int, marks: set[str], way: str, trouble: Trouble | None
) -> None:
    found = act_on(trouble, policy=policy, hours=hours, roll_back_hours=limit, marks=marks, way_back=way)
    if found == "roll back":
        assert trouble == WORSE
        assert policy == "roll-back"
        assert hours < limit
        assert not way
        assert ROLLBACK not in marks
    if trouble is None:
        assert found == "nothing"
    if trouble is not None and not marks:
        assert found != "nothing"


def test_a_crash_loop_is_trouble_whatever_the_counts_say() -> None:
    found = trouble_of(HEALTHY, "4 of 4 Pods crash")
    assert found == Trouble(("4 of 4 Pods crash",))
    assert trouble_of(HEALTHY, "") is None
    for verdict in ("insufficient", "blind", "superseded"):
        assert trouble_of(Judgement(verdict, ()), "") is None  # type: ignore[arg-type]
    assert trouble_of(WORSE_DAY, "") == WORSE


def test_what_only_looks_worse_is_told_once_and_sends_nothing_back() -> None:
    for policy in ("alert", "roll-back"):
        assert act(SUSPECTED, policy=policy) == "tell"
        assert act(SUSPECTED, policy=policy, marks={SUSPECT}) == "nothing"
        assert act(WORSE, policy=policy, marks={SUSPECT}) in {"tell", "roll back"}
    assert trouble_of(replace(HEALTHY, verdict="insufficient", advised=SUSPECTED.why), "") == SUSPECTED
    assert trouble_of(HEALTHY, "", "4 of 4 Pods crash; so do all others") is not None


def test_what_ended_hours_ago_is_told_and_sends_nothing_back() -> None:
    assert act(OVER) == "tell"
    assert act(OVER, marks={DEGRADED}) == "nothing"
    assert trouble_of(replace(WORSE_DAY, lasts=False), "") == OVER


def test_of_a_watch_that_was_stopped_nothing_is_sent_back() -> None:
    assert act(WORSE, marks={STOPPED}) == "tell"
    assert act(WORSE, marks={STOPPED, DEGRADED}) == "nothing"


def test_an_observer_is_blind_only_after_a_while_and_without_a_break_until_now() -> None:
    day = plain_day()
    requests = day.requests.copy()
    requests[20:26] = np.nan
    gap = replace(day, requests=requests)
    assert blind_since([day], 26, 6) is None
    assert blind_since([gap], 25, 6) is None
    assert blind_since([day, gap], 26, 6) == 20
    assert blind_since([gap], 27, 6) is None
    assert blind_since([], 26, 6) is None
    assert blind_since([gap], 0, 6) is None


def test_how_it_ended_is_told_by_who_stopped_it() -> None:
    assert how_it_ended(None) == "the day is over"
    assert how_it_ended(mark(STOPPED, by="b-0123456789ab")) == "rolled back"
    assert how_it_ended(mark(STOPPED, by="r-0123456789ab")) == "superseded"


def test_what_was_told_is_not_taken_back_by_a_quiet_evening() -> None:
    found = final_judgement(HEALTHY, "the day is over", [mark(DEGRADED)])
    assert found.verdict == "degraded"
    assert found.reasons[0] == "it was worse"


@pytest.mark.parametrize("verdict", ["healthy", "insufficient", "blind", "degraded"])
@pytest.mark.parametrize("how", ["superseded", "rolled back"])
def test_a_part_of_a_day_is_never_healthy(verdict: str, how: str) -> None:
    found = final_judgement(Judgement(verdict, ("why",)), how, [])  # type: ignore[arg-type]
    expected = "degraded" if (verdict, how) == ("degraded", "rolled back") else "superseded"
    assert found.verdict == expected
    assert found.reasons[-1] == "why"


def test_a_whole_day_is_what_it_was_judged() -> None:
    assert final_judgement(HEALTHY, "the day is over", []) == HEALTHY
