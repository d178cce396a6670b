"""Reports as Markdown: the verdict first, what needs attention next, and no name that breaks a table."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from core.evidence import Finding, Report, Step, verdict_of
from core.report_text import render_report
from core.units import human_age, human_bytes, human_duration, ratio_text

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)


def step(**changes: object) -> Step:
    return Step.model_validate(
        {"name": "dump", "subject": "app", "state": "passed", "started": NOON, "duration_ms": 1200} | changes
    )


def report(*steps: Step) -> Report:
    return Report(
        sequence=7,
        previous_sha256="0" * 64,
        flow="nightly-backup",
        environment="production",
        run_id="id",
        run_name="back up production",
        inputs={},
        tools={},
        started=NOON,
        finished=NOON,
        steps=steps,
        verdict=verdict_of(steps),
    )


def test_the_verdict_comes_first_and_times_are_in_the_environments_zone() -> None:
    text = render_report(report(step()), ZoneInfo("Europe/Berlin"), "s3://b/k")
    assert text.startswith("# nightly-backup · production: passed\n")
    assert "2026-07-01 14:00:00 CEST" in text
    assert "`s3://b/k`" in text


def test_errors_stand_before_the_steps() -> None:
    bad = step(state="failed", findings=[Finding(severity="error", text="no such table")])
    text = render_report(report(bad), ZoneInfo("UTC"), "s3://b/k")
    assert text.index("no such table") < text.index("## Steps")


def test_a_tables_name_cannot_break_the_report() -> None:
    rows = [{"table": 'x.a|b`<script>\n# "c"', "rows": 5, "size_bytes": 2048}]
    text = render_report(report(step(facts={"tables": rows})), ZoneInfo("UTC"), "s3://b/k")
    line = next(line for line in text.splitlines() if "script" in line)
    assert line.startswith("| x.a\\|b\\`\\<script\\> ")
    assert line.endswith("| 5 | 2.0 KiB |")


def test_a_long_table_says_how_much_it_leaves_out() -> None:
    rows = [{"table": f"t{number}"} for number in range(60)]
    assert "and 10 more" in render_report(report(step(facts={"tables": rows})), ZoneInfo("UTC"), "s3://b/k")


def test_what_stands_within_a_fact_is_not_told_as_python_writes_it() -> None:
    found = {"phases": {"fetch_ms": 1200, "verify_ms": 90}, "sure": True, "sizes": [{"plain_bytes": 2048}]}
    text = render_report(report(step(facts={"restored": found})), ZoneInfo("UTC"), "s3://b/k")
    assert "**restored**: phases: (fetch: 1.2 s; verify: 90 ms), sure: yes, sizes: ((plain: 2.0 KiB))" in text
    assert "{" not in text


def test_a_digest_makes_no_table_wider_than_the_page() -> None:
    told = f"the SHA-256 is {'7f3b2c8c9cb2':0<64}, {'55344847fe70':0<64} was recorded; pg_dump 15.18"
    text = render_report(
        report(step(facts={"controls": [{"damage": "flipped", "how": told}]})), ZoneInfo("UTC"), "s3://b/k"
    )
    assert "| flipped | the SHA-256 is 7f3b2c8c9cb2…, 55344847fe70… was recorded; pg\\_dump 15.18 |" in text


def test_a_run_without_any_step_has_failed() -> None:
    assert verdict_of([]) == "failed"


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 1024**3, "5.0 GiB"), (2**70, "1048576.0 PiB")],
)
def test_bytes_are_told_with_a_binary_unit(size: int, text: str) -> None:
    assert human_bytes(size) == text


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(85, "85 ms"), (3200, "3.2 s"), (59_999, "60.0 s"), (245_000, "4 min 05 s"), (7_800_000, "2 h 10 min")],
)
def test_durations_are_told_in_a_sensible_unit(milliseconds: int, text: str) -> None:
    assert human_duration(milliseconds) == text


def test_an_age_in_the_future_says_so() -> None:
    assert human_age(NOON - datetime(2026, 7, 2, tzinfo=UTC)) == "in the future"


def test_nothing_stored_has_no_ratio() -> None:
    assert ratio_text(100, 0) == "–"
    assert ratio_text(400, 100) == "4.0 : 1"
