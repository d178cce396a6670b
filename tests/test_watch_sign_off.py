"""A day after a release waits for a person's signature: what is shown, what signs and what does not, and what is kept of it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from core.errors import NightshiftError
from core.evidence import Finding
from core.watch_record import WatchEnd, WatchMark
from flows.watch_sign_off import SignOff, watch_sign_off, what_is_wrong_with_sign_off
from tasks.recording import utc_now
from tasks.sign_off_steps import look_at_watch
from tasks.watch_records import WatchRecords
from tests.fix_counts import plain_day
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_run import FlowRun
from tests.fix_watched import RELEASE, end_of, start, watched

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("watch-sign-off")]
ANSWER = {
    "release": RELEASE[-6:],
    "user_feedback": "the forum: nothing of it",
    "support_tickets": "queue shop: 2, neither about it",
    "issues": "none",
    "runbook": "nothing had to be changed",
    "signed_off_by": "Ada",
}
OTHER_FIELDS = sorted(ANSWER.keys() - {"release"})
DAY = watched({"errors": plain_day()})


def keep_watch(
    stage: Stage,
    *,
    ended: bool = True,
    findings: tuple[Finding, ...] = (),
    first: datetime = DAY.start.first,
    **end: Any,
) -> WatchRecords:
    """Keep a watch in the bucket as its ticks would have."""
    stage.settings.setdefault("watch", {})
    records = WatchRecords(stage.environment, RELEASE)
    assert records.keep(start(first=first))
    assert records.keep(DAY.tick.model_copy(update={"findings": findings}))
    if ended:
        assert records.keep(end_of(DAY, **end))
    return records


def sign_off_run(stage: Stage) -> FlowRun:
    """A run of the sign-off of a deployment's, which alone can be suspended."""
    stage.write()
    return FlowRun(watch_sign_off, {"environment": "stage", "release_id": RELEASE}, deployed=True)


def signed(records: WatchRecords) -> WatchMark | None:
    try:
        return records.mark("signed-off")
    except NightshiftError:
        return None


@pytest.fixture
def waiting(stage: Stage) -> FlowRun:
    """A sign-off that waits for its answer; of the release nothing is in the cluster."""
    keep_watch(stage, findings=(Finding(severity="warning", text="pods: # hello-blue-x <b>restarted</b> 3 times"),))
    run = sign_off_run(stage)
    state = run.go()
    assert state.is_paused(), state.message
    return run


def test_a_day_is_signed_off_once_a_person_said_what_was_found_and_typed_the_releases_id(
    stage: Stage, waiting: FlowRun, kubernetes: KubernetesApi
) -> None:
    records, text = WatchRecords(stage.environment, RELEASE), waiting.shown()
    assert "**Nothing found: errors: a factor of " in text
    assert f"s3://{stage.environment.store.bucket}/nightshift/evidence/00000007.json" in text
    assert "pods: # hello-blue-x \\<b\\>restarted\\</b\\> 3 times" in text
    assert "not the newest release that is live" in text
    assert signed(records) is None
    writes = len(kubernetes.writes())
    assert waiting.resume(**ANSWER) == "ACCEPT"
    state = waiting.go()
    assert state.is_completed(), state.message
    assert "signed off by Ada" in str(state.message)
    # The release is none that the cluster knows: what cannot be retired is told, and takes nothing back.
    assert "NOT RETIRED" in str(state.message)
    assert "Leave its sides to the release that is" in str(state.message)
    assert kubernetes.writes()[writes:] == []
    mark = signed(records)
    assert mark is not None
    assert mark.by == "Ada"
    first, second = stage.reports()
    assert mark.why.endswith(f"{first.sequence:08d}.json")
    assert first.verdict == "passed"
    (step,) = first.steps
    assert step.facts == {**ANSWER, "report": "nightshift/evidence/00000007.json"}
    assert second.verdict == "passed with warnings"


def test_once_signed_off_it_is_not_asked_again_and_what_was_not_retired_is_tried_again(
    stage: Stage, waiting: FlowRun
) -> None:
    assert waiting.resume(**ANSWER) == "ACCEPT"
    waiting.go()
    again = sign_off_run(stage).go()
    assert again.is_completed(), again.message
    assert "signed off by Ada, " in str(again.message)
    assert "NOT RETIRED" in str(again.message)
    records = WatchRecords(stage.environment, RELEASE)
    assert records.keep_mark("old-side", "it was rolled out in place", "the test")
    before = len(stage.reports())
    done = sign_off_run(stage).go()
    assert done.is_completed()
    assert "was signed off already, by Ada" in str(done.message)
    assert len(stage.reports()) == before


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"release": RELEASE[-6:]},
        *({**ANSWER, name: ""} for name in OTHER_FIELDS),
        *({**ANSWER, name: " \n"} for name in OTHER_FIELDS),
        *({key: value for key, value in ANSWER.items() if key != name} for name in OTHER_FIELDS[:1]),
        {**ANSWER, "issues": "x" * 2001},
    ],
)
def test_an_empty_or_half_empty_form_signs_nothing_off(stage: Stage, waiting: FlowRun, answer: dict[str, str]) -> None:
    assert waiting.resume(**answer) == "REJECT"
    assert waiting.state.is_paused()
    assert signed(WatchRecords(stage.environment, RELEASE)) is None


def test_another_releases_id_signs_nothing_off_and_after_three_the_run_ends(stage: Stage, waiting: FlowRun) -> None:
    for attempt in range(3):
        assert waiting.resume(**{**ANSWER, "release": "ffffff"}) == "ACCEPT"
        state = waiting.go()
        assert state.is_paused() == (attempt < 2), state.message
        if attempt < 2:
            assert "“ffffff” was typed" in waiting.shown()
    assert state.is_failed()
    assert "asked 3 times" in str(state.message)
    assert signed(WatchRecords(stage.environment, RELEASE)) is None


@pytest.mark.parametrize(
    ("kind", "name"), [("SCHEDULED", "Scheduled"), ("SCHEDULED", "AwaitingRetry"), ("RUNNING", "Running")]
)
def test_a_state_that_somebody_forces_signs_nothing_off(stage: Stage, waiting: FlowRun, kind: str, name: str) -> None:
    assert waiting.force(kind, name) == "ACCEPT"
    state = waiting.go()
    assert not state.is_completed(), state.message
    assert signed(WatchRecords(stage.environment, RELEASE)) is None


def test_it_waits_for_as_many_days_as_the_environment_says(stage: Stage) -> None:
    stage.settings["watch"] = {"sign_off_days": 2}
    keep_watch(stage)
    run = sign_off_run(stage)
    until = run.go().state_details.pause_timeout
    assert until is not None
    assert abs(until.timestamp() - (utc_now() + timedelta(days=2)).timestamp()) < 120


def test_a_watch_that_goes_on_or_was_never_begun_cannot_be_signed_off(stage: Stage) -> None:
    none = sign_off_run(stage).go()
    assert none.is_failed()
    assert "no watch of it was begun" in str(none.message)
    records = keep_watch(stage, ended=False, first=utc_now())
    on = sign_off_run(stage).go()
    assert on.is_failed()
    assert "its watch goes on" in str(on.message)
    assert signed(records) is None


def test_a_watch_whose_end_is_being_written_is_waited_for(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(look_at_watch, "retry_delay_seconds", 0.05)
    records, run = keep_watch(stage, ended=False), sign_off_run(stage)
    never = run.go()
    assert never.is_failed()
    assert "its watch has not ended" in str(never.message)
    looks: list[WatchRecords] = []
    real = WatchRecords.end

    def ended_at_the_second_look(self: WatchRecords) -> WatchEnd:
        looks.append(self)
        if len(looks) == 2:
            records.keep(end_of(DAY))
        return real(self)

    monkeypatch.setattr(WatchRecords, "end", ended_at_the_second_look)
    assert sign_off_run(stage).go().is_paused()
    assert len(looks) == 2


def test_what_another_signed_meanwhile_is_told_and_his_signature_stays(stage: Stage, waiting: FlowRun) -> None:
    records = WatchRecords(stage.environment, RELEASE)
    second = sign_off_run(stage)
    assert second.go().is_paused()
    assert waiting.resume(**ANSWER) == "ACCEPT"
    assert waiting.go().is_completed()
    assert second.resume(**{**ANSWER, "signed_off_by": "Grace"}) == "ACCEPT"
    state = second.go()
    assert state.is_completed()
    assert "signed off by Ada" in str(state.message)
    mark = signed(records)
    assert mark is not None
    assert mark.by == "Ada"


@pytest.mark.parametrize("how", ["superseded", "rolled back"])
def test_of_a_release_that_was_superseded_or_rolled_back_nothing_is_retired(stage: Stage, how: str) -> None:
    records = keep_watch(stage, how=how, verdict="degraded", reasons=("errors: E = 41 ≥ 40 after bucket 7",))
    run = sign_off_run(stage)
    assert run.go().is_paused()
    assert f"nothing is changed: it was {how}" in run.shown()
    assert "**The new version is worse than before: errors: E = 41" in run.shown()
    assert run.resume(**ANSWER) == "ACCEPT"
    state = run.go()
    assert state.is_completed()
    assert f"nothing is changed: it was {how}" in str(state.message)
    assert "NOT RETIRED" not in str(state.message)
    assert records.mark("old-side").why.startswith("nothing is changed")


def test_an_end_that_somebody_wrote_is_not_shown_for_signing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    records = keep_watch(stage, ended=False)
    forged: WatchEnd = end_of(DAY)
    with monkeypatch.context() as patched:
        patched.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "somebody else's key, of more than thirty-two characters")
        WatchRecords(stage.environment, RELEASE).keep(forged)
    state = sign_off_run(stage).go()
    assert state.is_failed()
    assert "the watch's ended" in str(state.message)
    assert signed(records) is None


@pytest.mark.parametrize("typed", [RELEASE, RELEASE[-6:], f" {RELEASE[-6:].upper()} "])
def test_the_end_of_the_id_or_all_of_it_is_what_must_be_typed(typed: str) -> None:
    assert what_is_wrong_with_sign_off(SignOff(**{**ANSWER, "release": typed}), RELEASE) == ""
    assert "was typed" in what_is_wrong_with_sign_off(SignOff(**{**ANSWER, "release": RELEASE[-5:]}), RELEASE)
