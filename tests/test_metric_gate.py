"""The gate by metrics: evidence to fail, a sample to pass, and everything between holds. And what a release does over time."""

import math
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metric_gate import (
    Finding,
    GateState,
    Limits,
    Reading,
    Verdict,
    binomial_tail,
    hold,
    judge,
    together,
    verdict_of,
)

LIMITS = Limits(share=0.01, factor=2.0, ignored=0.001, minimum=100)
NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
ORDER: list[GateState] = ["pass", "inconclusive", "fail"]


def judged(bad: int, total: int, old: tuple[int, int] | None = (5, 5000), limits: Limits = LIMITS) -> Finding:
    beside = None if old is None else Reading(bad=old[0], total=old[1])
    return judge("errors", "failed", limits, Reading(bad=bad, total=total), beside)


def verdict(state: GateState, minutes: float) -> Verdict:
    at = NOW - timedelta(minutes=minutes)
    return verdict_of(at, [Finding(gate="errors", state=state, found=f"said {state}")])


# One measurement


@pytest.mark.parametrize(
    ("bad", "total", "old", "state"),
    [
        (0, 1000, (0, 1000), "pass"),
        (1, 1000, (0, 1000), "pass"),
        (500, 1000, (1, 1000), "fail"),
        (3, 3, (0, 1000), "inconclusive"),
        (50, 60, (0, 1000), "fail"),
        (0, 3, (0, 1000), "inconclusive"),
        (0, 0, (0, 1000), "inconclusive"),
        (0, 99, (0, 1000), "inconclusive"),
        (0, 1000, (0, 99), "inconclusive"),
        (12, 1000, (0, 0), "inconclusive"),
        (12, 1000, None, "inconclusive"),  # 1.2 %: more than 1 %, though not proven
        (9, 1000, None, "pass"),
        (30, 1000, None, "fail"),
        (9, 1000, (0, 10000), "fail"),  # allowed by itself, but the old version has none
        (5, 1000, (5, 5000), "pass"),  # five times as many, of few
        (8, 1000, (5, 5000), "inconclusive"),  # eight times as many
        (50, 100_000, (0, 100_000), "pass"),  # below what is ignored
    ],
)
def test_what_a_measurement_says(bad: int, total: int, old: tuple[int, int] | None, state: GateState) -> None:
    assert judged(bad, total, old).state == state, judged(bad, total, old).found


def test_the_sentence_has_the_figures_of_both_sides() -> None:
    assert judged(500, 1000).found == (
        "500 of 1000 requests of the new version failed (50.00%), allowed are 1.00%; "
        "5 of 5000 of the old (0.10%), allowed is 2 times that"
    )


def test_no_data_is_not_zero_errors() -> None:
    said = judge("errors", "failed", LIMITS, Reading(doubt="Prometheus has no series of a"), Reading(bad=0, total=1000))
    assert (said.state, said.found) == ("inconclusive", "new version: Prometheus has no series of a")
    assert judge("errors", "failed", LIMITS, Reading(), None).state == "inconclusive"
    unknown_old = judge("errors", "failed", LIMITS, Reading(bad=0, total=1000), Reading(doubt="NaN"))
    assert (unknown_old.state, "old version: NaN" in unknown_old.found) == ("inconclusive", True)


def test_a_restart_of_the_new_version_does_not_pass_and_does_not_hide_a_failure() -> None:
    well, ill = Reading(bad=0, total=1000, restarted=1), Reading(bad=500, total=1000, restarted=1)
    said = judge("errors", "failed", LIMITS, well, None)
    assert (said.state, "restarted" in said.found) == ("inconclusive", True)
    assert judge("errors", "failed", LIMITS, ill, None).state == "fail"


def test_a_doubt_about_either_side_does_not_pass_and_does_not_hide_a_failure() -> None:
    for new, old in (
        (Reading(bad=0, total=1000, doubt="?"), None),
        (Reading(bad=0, total=1000), Reading(bad=0, total=1000, doubt="?")),
    ):
        assert judge("errors", "failed", LIMITS, new, old).state == "inconclusive"
    assert judge("errors", "failed", LIMITS, Reading(bad=500, total=1000, doubt="?"), None).state == "fail"


def test_a_doubtful_old_version_is_no_evidence_against_the_new_one() -> None:
    new, old = Reading(bad=9, total=1000), Reading(bad=0, total=10_000, doubt="not scraped for a time")
    said = judge("errors", "failed", LIMITS, new, old)
    assert (said.state, "old version: not scraped for a time" in said.found) == ("inconclusive", True)


def test_without_a_factor_the_old_version_decides_nothing() -> None:
    alone = LIMITS.model_copy(update={"factor": None})
    assert judged(9, 1000, (0, 100_000), alone).state == "pass"


counts = st.integers(0, 3000)


@given(total=counts, share=st.floats(0, 1), old_total=counts, old_share=st.floats(0, 1), more=st.integers(1, 50))
def test_more_errors_never_make_it_better(
    total: int, share: float, old_total: int, old_share: float, more: int
) -> None:
    old = (int(old_total * old_share), old_total)
    bad = int(total * share)
    before = ORDER.index(judged(bad, total, old).state)
    assert ORDER.index(judged(min(total, bad + more), total, old).state) >= before
    # Errors that come on top, as further requests: what failed never passes by them.
    if before == ORDER.index("fail"):
        assert judged(bad + more, total + more, old).state != "pass"


@given(total=counts, share=st.floats(0, 1), old_total=counts, old_bad=counts, more=st.integers(1, 50))
def test_fewer_errors_of_the_old_version_never_make_the_new_one_better(
    total: int, share: float, old_total: int, old_bad: int, more: int
) -> None:
    bad, old_bad = int(total * share), min(old_bad, old_total)
    before = ORDER.index(judged(bad, total, (old_bad, old_total)).state)
    assert ORDER.index(judged(bad, total, (max(0, old_bad - more), old_total)).state) >= before


@given(bad=counts, total=counts, old_bad=counts, old_total=counts)
def test_it_passes_only_with_the_sample_and_the_share(bad: int, total: int, old_bad: int, old_total: int) -> None:
    bad, old_bad = min(bad, total), min(old_bad, old_total)
    if judged(bad, total, (old_bad, old_total)).state == "pass":
        assert min(total, old_total) >= LIMITS.minimum
        assert bad <= LIMITS.share * total


def test_two_versions_alike_at_the_limit_are_seldom_called_failed() -> None:
    """Of 1000 requests at just 1 %: the chance that so many fail as to be called a failure."""
    least = next(bad for bad in range(1000) if judged(bad, 1000, None).state == "fail")
    assert binomial_tail(least, 1000, 0.01) < 0.001 <= binomial_tail(least - 1, 1000, 0.01)
    assert least == 22


def exact_tail(least: int, trials: int, chance: Fraction) -> Fraction:
    terms = (math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k) for k in range(max(0, least), trials + 1))
    return sum(terms, Fraction(0))


@given(least=st.integers(-2, 70), trials=st.integers(0, 60), percent=st.integers(1, 99))
def test_the_binomial_tail_is_exact(least: int, trials: int, percent: int) -> None:
    exact = float(exact_tail(least, trials, Fraction(percent, 100)))
    assert binomial_tail(least, trials, percent / 100) == pytest.approx(exact, rel=1e-9, abs=1e-15)


def test_the_binomial_tail_of_millions_is_quick_and_sane() -> None:
    assert 0.4 < binomial_tail(100_000, 10_000_000, 0.01) < 0.6
    assert binomial_tail(102_000, 10_000_000, 0.01) < 1e-9
    assert binomial_tail(98_000, 10_000_000, 0.01) > 0.999


# Together


def test_one_gate_that_fails_fails_all_and_one_that_is_inconclusive_holds_all() -> None:
    def together(*states: GateState) -> GateState:
        return verdict_of(NOW, [Finding(gate="g", state=state, found="f") for state in states]).state

    assert together("pass", "inconclusive", "fail") == "fail"
    assert together("pass", "inconclusive", "not configured") == "inconclusive"
    assert together("pass", "not configured") == "pass"
    assert together("not configured") == "not configured"
    assert together() == "inconclusive"


def test_verdicts_together_are_as_old_as_the_oldest_and_keep_what_was_not_configured() -> None:
    both = together(verdict("not configured", 5), verdict("pass", 1))
    assert (both.state, both.at, len(both.findings)) == ("pass", NOW - timedelta(minutes=5), 2)
    assert together(verdict("inconclusive", 0), verdict("pass", 0)).state == "inconclusive"
    assert together(verdict("inconclusive", 0), verdict("fail", 0)).state == "fail"


# Over time


@pytest.mark.parametrize(
    ("history", "action"),
    [
        ([], "hold"),
        ([("pass", 0)], "go-on"),
        ([("fail", 0)], "go-back"),
        ([("inconclusive", 0)], "hold"),
        ([("inconclusive", 14.9), ("inconclusive", 0)], "hold"),
        ([("inconclusive", 15), ("inconclusive", 0)], "go-back"),
        ([("inconclusive", 15), ("pass", 0)], "go-on"),
        ([("inconclusive", 20), ("pass", 10), ("inconclusive", 0)], "hold"),
        ([("inconclusive", 20), ("fail", 0)], "go-back"),
        ([("not configured", 0)], "go-on"),
        # A pass of long ago, before the process slept: no pass of now.
        ([("pass", 10)], "hold"),
        ([("pass", 15)], "go-back"),
        # A clock that was set back.
        ([("pass", -10)], "hold"),
    ],
)
def test_what_a_release_does(history: list[tuple[GateState, float]], action: str) -> None:
    decision = hold([verdict(state, minutes) for state, minutes in history], NOW, 15)
    assert decision.action == action, decision.reason


def test_what_was_not_judged_is_not_called_passed() -> None:
    assert hold([verdict("not configured", 0)], NOW, 15).reason == "not judged: said not configured"


def test_going_back_tells_why_nothing_was_decided() -> None:
    decision = hold([verdict("inconclusive", 30), verdict("inconclusive", 0)], NOW, 15)
    assert decision.reason == "not decided for 15 minutes: said inconclusive"


def test_what_two_gates_found_alike_is_said_once() -> None:
    alike = [Finding(gate=gate, state="inconclusive", found="no series") for gate in ("errors", "latency")]
    other = Finding(gate="health", state="inconclusive", found="no Pod")
    assert verdict_of(NOW, [*alike, other]).found == "no series; no Pod"


@given(st.lists(st.tuples(st.sampled_from(["pass", "fail", "inconclusive"]), st.floats(0, 60)), max_size=6))
def test_a_release_goes_on_only_by_a_pass_of_now(entries: list[tuple[GateState, float]]) -> None:
    history = [verdict(state, minutes) for state, minutes in sorted(entries, key=lambda entry: -entry[1])]
    if hold(history, NOW, 15).action == "go-on":
        assert history[-1].state == "pass"
        assert NOW - history[-1].at <= timedelta(minutes=2)
