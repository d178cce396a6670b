"""What is told of a watch: never a pass without what would have been found, nothing that is markup, and bounded however much there is to tell."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import get_args
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.canonical import canonical_bytes
from core.evidence import Finding, Step, verdict_of
from core.watch_counts import BUCKETS, Counts
from core.watch_decision import final_judgement
from core.watch_evidence import ToldStep, final_steps
from core.watch_figures import hourly_shares, rounded_up
from core.watch_record import CutOut, HowItEnded, WatchMark
from core.watch_report import MOST_FINDINGS, Watched, ended_sentence, verdict_sentence
from core.watch_text import final_text, running_text, sign_off_text
from core.watch_verdict import Judgement, MetricVerdict, Verdict, judge
from tasks.recording import Record
from tests.fix_counts import plain_day, with_bad
from tests.fix_watched import FIRST, RELEASE, end_of, start, watched

ZONE = ZoneInfo("Europe/Berlin")
DAY_OVER: HowItEnded = "the day is over"
HOSTILE = st.text(max_size=60) | st.sampled_from(
    [
        "# All is well",
        "x\n# Nothing found; a factor of 1.1 would have been",
        "](javascript:alert(1))",
        "![x](http://evil.test/x.png)",
        "<img src=x onerror=alert(1)>",
        "| a | b |",
        "`code`",
        "a | b\\",
        "\r\n\r\n- ! x",
        "$x$",
    ]
)
EACH = {"errors": plain_day(), "slow": plain_day(bad=20)}
SEEN, NOT_COUNTED = watched(EACH), watched({}, judgement=Judgement("blind", ("nobody counts",), ()))


@st.composite
def judgements(draw: st.DrawFn) -> Judgement:
    """Any judgement, as judge makes them or not."""
    metrics = [
        MetricVerdict(
            metric=name,
            days=draw(st.integers(0, 4)),
            coverage=draw(st.floats(0, 1)),
            dispersion=draw(st.floats(1, 100) | st.just(float("nan"))),
            threshold=draw(st.sampled_from([20.0, 40.0, 60.0])),
            process=draw(st.sampled_from([(), (1.0,) * BUCKETS, tuple(float(one) for one in range(BUCKETS))])),
            alarm=draw(st.none() | st.integers(0, BUCKETS - 1)),
            detectable_factor=draw(st.floats(1.01, 1000) | st.just(float("inf"))),
            acts=draw(st.booleans()),
            why_not=draw(HOSTILE),
        )
        for name in draw(st.lists(st.sampled_from(["errors", "slow"]) | HOSTILE, max_size=3, unique=True))
    ]
    verdict = draw(st.sampled_from(get_args(Verdict)))
    return Judgement(verdict, tuple(draw(st.lists(HOSTILE, max_size=20))), tuple(metrics))


@st.composite
def any_watch(draw: st.DrawFn) -> Watched:
    """Any watch, with hostile text wherever text comes from outside."""
    findings = st.builds(Finding, severity=st.sampled_from(["note", "warning", "error"]), text=HOSTILE)
    marks = st.builds(
        WatchMark,
        environment=st.just("stage"),
        release_id=st.just(RELEASE),
        what=HOSTILE,
        at=st.just(FIRST),
        by=HOSTILE,
        why=HOSTILE,
    )
    found = draw(st.sampled_from([SEEN, NOT_COUNTED]))
    tick = found.tick.model_copy(
        update={
            "closed": draw(st.sampled_from([0, 1, 100, BUCKETS])),
            "unread": draw(st.dictionaries(HOSTILE, HOSTILE, max_size=3)),
        }
    )
    cut_out = (CutOut(begin=FIRST, end=FIRST + timedelta(hours=1), why=draw(HOSTILE)),)
    baseline = found.baseline.model_copy(update={"cut_out": cut_out}) if found.baseline is not None else None
    return Watched(
        start(image=draw(HOSTILE)),
        draw(st.sampled_from([baseline, None])),
        tick,
        draw(judgements()),
        marks=draw(st.lists(marks, max_size=3)),
        sources=draw(st.dictionaries(HOSTILE, st.lists(findings, max_size=60), max_size=3)),
        not_asked=draw(st.dictionaries(HOSTILE, HOSTILE, max_size=3)),
    )


def is_harmless(text: str) -> bool:
    """Whether a Markdown text has no heading but ours, no markup, and no table that falls apart."""
    lines = text.split("\n")
    headings = {"Why", "What else was found", "What was not looked at", "What was told and done", "Evidence"}
    headings |= {"What this cannot see", f"Sign off {RELEASE} in stage"}
    later = {line.removeprefix("## ") for line in lines[1:] if line.startswith("#")}
    cells = {len(re.findall(r"(?<!\\)\|", line)) for line in lines if line.startswith("|")}
    unescaped = re.search(r"(?<!\\)(?:\\\\)*[<>\[\]`]", text)
    return later <= headings and len(cells) <= 1 and unescaped is None and "\r" not in text


def verdict_as_reported(steps: tuple[ToldStep, ...]) -> str:
    record = Record(RELEASE)
    for one in steps:
        with record.step(one.name) as notes:
            notes.add(facts=one.facts, findings=one.findings)
    kept: list[Step] = record.steps
    canonical_bytes([one.model_dump(mode="json") for one in kept])
    return verdict_of(kept)


@settings(max_examples=50)
@given(any_watch(), st.sampled_from(get_args(HowItEnded)))
def test_any_watch_is_told_without_markup_bounded_and_as_a_pass_only_with_what_would_have_been_found(
    found: Watched, how: HowItEnded
) -> None:
    sentence, verdict = verdict_sentence(found), found.judgement.verdict
    passes = re.match(r"Nothing found; a factor of [0-9.]+ would have been$", sentence) is not None
    assert "\n" not in sentence
    power = [one.detectable_factor for one in found.judgement.metrics]
    assert passes == (verdict == "healthy" and bool(power) and float("inf") not in power), sentence
    assert passes or sentence.startswith(("NO PASS: ", "The new version is worse"))
    steps = final_steps(found, how, ZONE)
    reported = verdict_as_reported(steps)
    assert reported != "passed" or (passes and how == DAY_OVER)
    assert (verdict == "degraded") == (reported == "failed")
    assert len(json.dumps([one.facts for one in steps])) < 100_000
    for text in (final_text(found, how, ZONE, "s3://bucket/key"), running_text(found, ZONE)):
        assert is_harmless(text), text
        assert text.startswith("# ")
        assert len(text) < 100_000
    shown = sign_off_text(found.start, end_of(found), found.tick.findings, ZONE, location="s3://b/k", retired="x")
    assert is_harmless(shown), shown


@settings(max_examples=20)
@given(st.sampled_from(["insufficient", "blind", "superseded"]), st.lists(HOSTILE, max_size=3))
def test_what_is_no_pass_says_so_first_and_while_the_day_goes_on_that_there_is_no_verdict(
    verdict: Verdict, reasons: list[str]
) -> None:
    # Though each metric says what would have been found.
    found = replace(SEEN, judgement=Judgement(verdict, tuple(reasons), SEEN.judgement.metrics))
    assert final_text(found, DAY_OVER, ZONE).startswith(("# NO PASS: ", "# NO PASS\n\n**"))
    assert running_text(found, ZONE).startswith(("# So far no verdict: ", "# So far no verdict\n\n**"))
    assert ended_sentence(end_of(found)).startswith("NO PASS: ")


def test_an_end_that_is_healthy_without_a_reason_is_no_pass() -> None:
    found = watched(EACH)
    assert ended_sentence(end_of(found)).startswith("Nothing found: errors: a factor of ")
    assert ended_sentence(end_of(found, reasons=())).startswith("NO PASS: ")


def test_a_healthy_day_is_told_with_all_its_figures() -> None:
    found = watched(EACH, not_asked={"logs": "no table [watch.logs]"})
    text = final_text(found, DAY_OVER, ZONE, "s3://bucket/key")
    assert re.match(r"# Nothing found; a factor of [0-9.]+ would have been\n", text)
    assert "| requests, new version | 288,000 | 288,000 |" in text
    assert "| bad, days before | 2,304 (0.2 %) | 23,040 (2 %) |" in text
    assert "released 2026-11-25 14:02 CET" in text
    assert "watched for 24 h 00 min, until 2026-11-26 14:05 CET: the day is over" in text
    assert "- **logs**: nobody looks: no table \\[watch.logs\\]" in text
    assert "Nothing else was looked at." in text
    assert "## Why\n\n- · errors: a factor of " in text


def test_a_degraded_day_is_told_with_the_alarms_time_by_the_clock_on_the_wall_and_fails_its_report() -> None:
    worse = with_bad(plain_day(), 100, BUCKETS, 12)
    found = watched({"errors": worse, "slow": plain_day(bad=20)})
    alarm = found.judgement.metrics[0].alarm
    assert alarm is not None
    at = (FIRST + timedelta(minutes=5 * (alarm + 1))).astimezone(ZONE)
    text = final_text(found, "rolled back", ZONE)
    assert text.startswith(
        "# Rolled back after 24 h 00 min. Until then: The new version is worse than before\n\n**errors: E ="
    )
    assert f"| alarm | after bucket {alarm}, {at:%Y-%m-%d %H:%M} CET | none |" in text
    judged, errors, *_ = final_steps(found, DAY_OVER, ZONE)
    assert [one.severity for one in judged.findings] == ["error"]
    assert (errors.facts["alarm_bucket"], errors.facts["requests"], errors.facts["bad"]) == (alarm, 288_000, 2456)
    assert judged.facts["watched_until"] == "2026-11-26 14:05 CET"


@pytest.mark.parametrize("how", ["superseded", "rolled back"])
def test_a_part_of_a_day_is_no_pass_and_says_what_was_found_until_then(how: HowItEnded) -> None:
    found = watched({"errors": plain_day()}, closed=100)
    found = replace(found, judgement=final_judgement(found.judgement, how, ()))
    text = final_text(found, how, ZONE)
    assert text.startswith(
        f"# NO PASS\n\n**the day was not watched to its end: {how} before the day was over; until then "
    )
    assert f"watched for 8 h 20 min, until 2026-11-25 22:25 CET: {how}" in text
    assert verdict_as_reported(final_steps(found, how, ZONE)) == "passed with warnings"
    assert ended_sentence(end_of(found)).startswith("NO PASS: ")


def test_a_guard_with_an_objective_is_told_beside_the_metrics_and_its_alarm_fails_the_report() -> None:
    burning = with_bad(plain_day(), 100, BUCKETS, 300)
    judged = judge({"errors": burning}, objective=0.999)
    assert judged.guard is not None
    assert judged.guard.alarm is not None
    found = watched({"errors": burning}, judgement=judged)
    told = "**errors, objective 0.999**: largest E: more than 1,000,000, after bucket "
    assert told in final_text(found, DAY_OVER, ZONE)
    assert "objective" not in final_text(SEEN, DAY_OVER, ZONE)
    steps = {one.name: one for one in final_steps(found, DAY_OVER, ZONE)}
    assert steps["objective"].facts["alarm_bucket"] == judged.guard.alarm
    assert verdict_as_reported(tuple(steps.values())) == "failed"


def test_what_nobody_knows_is_not_told_as_nought() -> None:
    nothing = Counts(*(np.full_like(one, np.nan) for one in vars(plain_day()).values()))
    found = watched({"errors": nothing})
    (row,) = [line for line in final_text(found, DAY_OVER, ZONE).split("\n") if line.startswith("| bad, new version")]
    assert row == "| bad, new version | not known (share not known) |"
    (step,) = [one for one in final_steps(found, DAY_OVER, ZONE) if one.name == "metric errors"]
    assert step.facts["requests"] is None


def test_earlier_days_are_counted_only_where_the_new_version_was_seen() -> None:
    day = plain_day()
    day.requests[:144] = day.bad[:144] = np.nan
    found = watched({"errors": day})
    assert found.figures[0].baseline_requests == 4 * 144 * 1000


def test_what_was_cut_out_unread_found_and_told_stands_in_the_report() -> None:
    mark = WatchMark(
        environment="stage", release_id=RELEASE, what="told", at=FIRST, by="the tick", why="E = 41"
    )  # fmt: skip
    found = watched(
        EACH,
        unread={"logs": "Elasticsearch answered 503"},
        sources={"pods": [Finding(severity="error", text=f"restart {number}") for number in range(100)]},
        marks=[mark],
        cut_out=[CutOut(begin=FIRST, end=FIRST + timedelta(hours=1), why="an incident")],
    )
    steps = {one.name: one for one in final_steps(found, DAY_OVER, ZONE)}
    assert steps["compare with"].facts["cut_out"] == [
        {"from": "2026-11-25 14:05 CET", "until": "2026-11-25 15:05 CET", "why": "an incident"}
    ]
    assert steps["look at logs"].facts["looked"] == "could not be read: Elasticsearch answered 503"
    pods = steps["look at pods"]
    assert len(pods.findings) == MOST_FINDINGS + 1
    assert pods.findings[-1].text == "and 60 other findings"
    assert {one.severity for one in pods.findings} == {"warning"}, "other sources advise"
    assert steps["tell"].facts["told"] == [
        {"what": "told", "at": "2026-11-25 14:05 CET", "by": "the tick", "why": "E = 41"}
    ]


@given(st.floats(1.01, 1000))
def test_a_factor_is_never_told_smaller_than_it_is_nor_much_larger(factor: float) -> None:
    told = rounded_up(factor)
    assert told is not None
    assert factor * (1 - 1e-5) <= told <= factor * 1.1 + 1e-9
    assert rounded_up(2.4) == 2.4


@given(st.integers(0, 500), st.integers(1, 500), st.floats(1, 20))
def test_an_interval_holds_the_share_stays_between_none_and_all_and_widens_with_the_dispersion(
    bad: int, good: int, dispersion: float
) -> None:
    requests, failed = np.full(BUCKETS, np.nan), np.full(BUCKETS, np.nan)
    requests[:12], failed[:12] = bad + good, bad
    one, wider = hourly_shares(requests, failed, 1.0), hourly_shares(requests, failed, dispersion)
    assert 0 <= wider.low[0] <= one.low[0] + 1e-12
    assert one.low[0] <= one.share[0] <= one.high[0] <= wider.high[0] + 1e-12 <= 1 + 1e-11
    assert one.share[0] == pytest.approx(bad / (bad + good))
    assert np.isnan(one.share[1:]).all(), "an hour of which nothing is known is a gap"


def test_wilsons_interval_is_that_of_the_literature() -> None:
    """Wilson's interval of 0 of 10 and of 81 of 263: Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    requests, failed = np.zeros(BUCKETS), np.zeros(BUCKETS)
    requests[[0, 12]], failed[[0, 12]] = [263, 20], [81, 0]
    found = hourly_shares(requests, failed, 1.0)
    assert (found.low[0], found.high[0]) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (found.low[1], found.high[1]) == pytest.approx((0.0, 0.1611), abs=5e-5)
