"""A run's record holds what happened, also when a step fails or is interrupted."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.checks import Check
from core.errors import PermanentError
from core.evidence import Finding
from tasks.recording import Record, outcome_sentence


def ticking(seconds: float) -> Iterator[datetime]:
    now = datetime(2026, 3, 29, 0, 59, 59, tzinfo=UTC)
    while True:
        yield now
        now += timedelta(seconds=seconds)


def record(name: str = "app", seconds: float = 1.5) -> Record:
    clock = ticking(seconds)
    return Record(name, clock=lambda: next(clock))


def test_a_step_has_its_time_and_what_was_noted() -> None:
    mine = record()
    with mine.step("dump") as notes:
        notes.add(facts={"rows": 3}, findings=[Finding(severity="warning", text="slow")])
    step = mine.steps[0]
    assert (step.name, step.subject, step.state, step.duration_ms, step.facts) == (
        "dump",
        "app",
        "warning",
        1500,
        {"rows": 3},
    )


def test_a_failing_step_is_recorded_and_its_error_goes_on() -> None:
    mine = record()
    with pytest.raises(PermanentError), mine.step("dump"):
        raise PermanentError("run pg_dump", "app", "no such table", "")
    assert mine.steps[0].state == "failed"
    assert mine.failed
    assert mine.why == "could not run pg_dump (app): no such table"


def test_an_interruption_is_a_failure_too() -> None:
    mine = record()
    with pytest.raises(KeyboardInterrupt), mine.step("dump"):
        raise KeyboardInterrupt
    assert mine.steps[0].state == "failed"
    assert "KeyboardInterrupt" in mine.why


def test_a_record_that_was_not_finished_has_failed_though_every_step_passed() -> None:
    mine = record()
    with mine.step("dump"):
        pass
    assert not mine.failed_so_far
    assert mine.failed
    mine.finish("all")
    assert not mine.failed


def test_checks_become_findings_and_a_table() -> None:
    mine = record()
    checks = [
        Check(name="bucket", state="passed", found="there"),
        Check(name="clock", state="failed", found="400 s off", next_step="Set it"),
    ]
    with mine.step("check before") as notes:
        notes.add_checks(checks)
    assert mine.steps[0].state == "failed"
    assert mine.why == "clock: 400 s off → Set it"
    assert [row["check"] for row in mine.steps[0].facts["checks"]] == ["bucket", "clock"]


def test_a_runs_sentence_tells_failures_first() -> None:
    good, bad = record("good"), record("bad")
    good.finish("stored")
    with pytest.raises(PermanentError), bad.step("dump"):
        raise PermanentError("dump", "bad", "gone", "")
    assert outcome_sentence([good, bad]) == "bad: could not dump (bad): gone; good: stored"


def test_a_clock_that_jumps_back_gives_no_negative_duration() -> None:
    mine = record(seconds=-3600)
    with mine.step("dump"):
        pass
    assert mine.steps[0].duration_ms == 0
