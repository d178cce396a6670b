"""What becomes of a release that was left open or stopped: one decision for the release itself and for its recovery."""

from datetime import UTC, datetime
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import PermanentError
from core.release_journal import Event, Journal, with_entry
from core.release_plan import Compatibility
from core.release_recovery import Applied, Decision, Liveness, Situation, decide, instead_of
from core.signature import SigningKey

KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")


def journal(*events: Event, **facts: Any) -> Journal:
    """A journal with these entries; facts go to the last one."""
    made = Journal(
        environment="stage",
        release_id="r-000000000001",
        plan_id="r-000000000001",
        plan_sha256="a" * 64,
        flow_run_id="1",
    )
    for event in events:
        given_facts = facts if event == events[-1] else {}
        made = with_entry(
            made, KEY, at=datetime(2026, 3, 1, tzinfo=UTC), fence=1, holder="r", event=event, facts=given_facts
        )
    return made


def seen(**changed: Any) -> Situation:
    """A dead holder, nothing migrated."""
    return Situation(**{"holder": "ended", "job": False, "applied": "no", "all_new": False, **changed})


@pytest.mark.parametrize(
    ("compatibility", "situation", "what"),
    [
        ("backward", seen(applied="yes"), "go back"),
        ("backward", seen(applied="partly"), "go back"),
        ("backward", seen(applied="unknown", failed=True), "go back"),
        ("backward", seen(applied="yes", all_new=True), "finish"),
        # One that fails after the shift takes all with it.
        ("backward", seen(applied="yes", all_new=True, failed=True), "go back"),
        ("backward", seen(applied="unknown", job=True, failed=True), "wait"),
        ("breaking", seen(applied="no", failed=True), "go back"),
        ("breaking", seen(applied="", failed=True), "go back"),
        ("breaking", seen(applied="yes"), "finish"),
        ("breaking", seen(applied="yes", failed=True), "hold"),
        ("breaking", seen(applied="partly"), "hold"),
        ("breaking", seen(applied="partly", failed=True), "hold"),
        ("breaking", seen(applied="unknown", failed=True), "hold"),
        ("breaking", seen(applied="unknown", job=True), "wait"),
        ("breaking", seen(applied="yes", holder="living"), "nothing"),
    ],
)
def test_after_a_breaking_migration_nobody_goes_back_by_himself(
    compatibility: Compatibility, situation: Situation, what: str
) -> None:
    assert decide(journal("opened", "intent"), compatibility, situation).what == what


def test_what_is_held_stays_held_with_its_reason_until_a_person_has_decided() -> None:
    held = journal("opened", "held", why="the new version crashes")
    assert decide(held, "breaking", seen(applied="yes")) == Decision("hold", "the new version crashes")
    decided = with_entry(held, KEY, at=datetime(2026, 3, 1, tzinfo=UTC), fence=2, holder="r", event="decided")
    assert decide(decided, "breaking", seen(applied="yes")).what == "finish"
    assert decide(held, "breaking", seen(applied="yes", job=True)).what == "wait"


def test_who_goes_back_by_a_persons_word_goes_back_to_the_end() -> None:
    back = journal("opened", "held", "decided", "compensate")
    assert not back.is_held
    assert decide(back, "breaking", seen(applied="yes")).what == "go back"


def test_a_persons_word_counts_only_where_there_is_one_to_say() -> None:
    forward, hold = Decision("finish", "incident 7"), Decision("hold", "why")
    assert instead_of(hold, forward, journal("opened", "held"), "r-1") is forward
    assert instead_of(hold, None, journal("opened", "held"), "r-1") is hold
    for ours in (Decision("wait", "a Job runs"), Decision("nothing", "its run lives")):
        assert instead_of(ours, forward, None, "r-1") is ours


def test_forward_is_refused_for_what_goes_back_already() -> None:
    back = journal("opened", "compensate", why="it crashed")
    with pytest.raises(PermanentError, match="it goes back already: it crashed"):
        instead_of(Decision("go back", "it was going back already"), Decision("finish", "do"), back, "r-1")


@given(
    events=st.lists(st.sampled_from([one for one in get_args(Event) if one != "closed"]), max_size=4),
    holder=st.sampled_from(get_args(Liveness)),
    job=st.booleans(),
    applied=st.sampled_from(get_args(Applied)),
    all_new=st.booleans(),
    failed=st.booleans(),
)
def test_the_old_version_never_meets_a_schema_that_it_cannot_work_with_but_by_a_persons_word(  # noqa: PLR0917 - a space of six
    events: list[Event], holder: Liveness, job: bool, applied: Applied, all_new: bool, failed: bool
) -> None:
    situation = Situation(holder, job=job, applied=applied, all_new=all_new, failed=failed)
    what = decide(found := journal(*events), "breaking", situation).what
    if applied in {"yes", "partly", "unknown"} and not found.goes_back:
        assert what != "go back"
    if job:
        assert what in {"wait", "nothing"}
    if failed:
        assert what != "finish"
