"""The test for a new version that is worse: against its definition, on made-up days, and with holes in the data."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.simulated_days import Setting, simulate
from core.dispersion import dispersion
from core.sequential_test import (
    MIXTURE,
    MOST_OF_A_BUCKET,
    TOLERATED_FACTOR,
    Mixture,
    e_process,
    e_process_of,
    first_alarm,
    threshold,
)
from core.watch_counts import BUCKETS, BUCKETS_AN_HOUR, HOURS, Counts
from tests.fix_counts import plain_day, with_bad

AT = threshold(3)


def by_definition(counts: Counts, divisor: float, now: int) -> float:
    """E after a bucket, term by term: the mean over the hours it is begun in, and over the factors, of products of likelihood ratios."""
    new, old = counts.bad / divisor, counts.baseline_bad.sum(axis=0) / divisor
    n, m = counts.requests, counts.baseline_requests.sum(axis=0)

    def log_ratio(bucket: int, factor: float) -> float:
        def log_likelihood(psi: float) -> float:
            share = psi * n[bucket] / (psi * n[bucket] + m[bucket])
            return float(new[bucket] * math.log(share) + old[bucket] * math.log(1 - share))

        found = log_likelihood(factor) - log_likelihood(TOLERATED_FACTOR)
        return found if counts.bad[bucket] >= n[bucket] / 2 else min(found, MOST_OF_A_BUCKET)

    total = 0.0
    for factor, weight in zip(MIXTURE.factors, MIXTURE.weights, strict=True):
        for begin in range(0, BUCKETS, BUCKETS_AN_HOUR):
            evidence = sum(log_ratio(one, factor) for one in range(begin, now + 1)) if begin <= now else 0.0
            total += weight * math.exp(evidence) / HOURS
    return total


def test_it_is_what_its_definition_says() -> None:
    random = np.random.default_rng(1)
    counts = Counts(
        random.uniform(50, 200, BUCKETS).round(),
        random.poisson(2, BUCKETS).astype(float),
        random.uniform(50, 200, (3, BUCKETS)).round(),
        random.poisson(1, (3, BUCKETS)).astype(float),
    )
    found = e_process_of(counts, np.float64(1.3))
    for now in (0, 11, 12, 100, BUCKETS - 1):
        assert found[now] == pytest.approx(by_definition(counts, 1.3, now), rel=1e-9)


def test_the_weights_of_the_mixture_are_one_in_all() -> None:
    assert sum(MIXTURE.weights) == pytest.approx(1)
    assert min(MIXTURE.factors) > TOLERATED_FACTOR


@given(
    holes=arrays.arrays(bool, BUCKETS, elements=st.booleans()),
    bad=arrays.arrays(float, BUCKETS, elements=st.integers(0, 30).map(float)),
)
@settings(max_examples=40)
def test_a_bucket_that_nobody_saw_is_no_evidence_either_way(holes: np.ndarray, bad: np.ndarray) -> None:
    whole = plain_day()
    for nothing in (0, np.nan):
        counts = Counts(
            np.where(holes, nothing, 1000.0), np.where(holes, nothing, bad), whole.baseline_requests, whole.baseline_bad
        )
        before = np.concatenate([[1.0], e_process(counts)[:-1]])
        assert np.allclose(e_process(counts)[holes], before[holes])


def test_an_hour_of_an_earlier_day_that_is_cut_out_counts_on_no_side() -> None:
    day = plain_day()
    requests, bad = day.baseline_requests.copy(), day.baseline_bad.copy()
    requests[0, 24:36] = bad[0, 24:36] = np.nan
    counts = Counts(day.requests, day.bad, requests, bad)
    assert dispersion(counts) == 1
    assert e_process(counts)[-1] == pytest.approx(e_process(day)[-1], rel=0.5)


@given(st.integers(0, BUCKETS - 1), st.integers(0, 200))
@settings(max_examples=40)
def test_more_bad_requests_never_make_it_look_better(bucket: int, more: int) -> None:
    counts = plain_day()
    worse = with_bad(counts, bucket, bucket + 1, 2 + more)
    assert (e_process(worse) >= e_process(counts) - 1e-9).all()


@given(arrays.arrays(float, (5, BUCKETS), elements=st.integers(0, 1000).map(float)))
@settings(max_examples=40)
def test_it_is_a_positive_number_whatever_comes(bad: np.ndarray) -> None:
    requests = np.full(BUCKETS, 1000.0)
    counts = Counts(requests, bad[0], np.broadcast_to(requests, (4, BUCKETS)), bad[1:])
    found = e_process(counts)
    assert np.isfinite(found).all()
    assert (found > 0).all()


def test_what_is_as_the_days_before_or_a_little_worse_raises_no_alarm() -> None:
    for bad in (0, 2, 3):
        assert math.isinf(first_alarm(e_process(plain_day(bad=2)), AT))
        assert math.isinf(first_alarm(e_process(with_bad(plain_day(), 0, BUCKETS, bad)), AT))


def test_a_total_failure_is_found_within_its_bucket_and_a_burst_of_one_bucket_is_not_believed() -> None:
    assert first_alarm(e_process(with_bad(plain_day(), 200, 201, 1000)), AT) == 200
    assert math.isinf(first_alarm(e_process(with_bad(plain_day(), 200, 201, 400)), AT))
    assert first_alarm(e_process(with_bad(plain_day(), 200, BUCKETS, 400)), AT) <= 204


def test_a_trouble_of_the_evening_is_not_outweighed_by_a_good_day() -> None:
    evening = 20 * BUCKETS_AN_HOUR
    counts = with_bad(plain_day(), evening, BUCKETS, 6)
    assert evening < first_alarm(e_process(counts), AT) < evening + 3 * BUCKETS_AN_HOUR


def test_false_alarms_and_power_are_in_the_range_that_the_benchmark_measures() -> None:
    """A few hundred days with fixed seeds; benchmarks/judgement.py simulates thousands."""
    days = 400
    for noise in ("poisson", "both"):
        random = np.random.default_rng(5)
        three = [first_alarm(e_process(simulate(Setting(noise, 3460), days, random)), AT) for _ in range(3)]
        assert np.isfinite(np.minimum.reduce(three)).mean() <= 0.06
    found = first_alarm(e_process(simulate(Setting("both", 346, 3), days, np.random.default_rng(6))), AT)
    assert np.isfinite(found).mean() >= 0.85


def test_days_that_are_alike_have_no_dispersion_and_noisy_ones_have_as_much_as_they_have() -> None:
    assert dispersion(plain_day()) == 1
    random = np.random.default_rng(7)
    poisson, both = (dispersion(simulate(Setting(noise, 3460), 200, random)) for noise in ("poisson", "both"))
    assert 1 <= np.mean(poisson) < 1.1
    # 144 bad an hour: 1 + 144 · (2 / 12 + 0.04), for bursts of twelve buckets and days.
    assert 20 < np.mean(both) < 40
    with pytest.raises(ValueError, match="1 baseline days; at least 2"):
        dispersion(plain_day(days=1))


def test_days_without_any_bad_request_have_the_least_dispersion() -> None:
    assert dispersion(plain_day(bad=0)) == 1
    assert np.isfinite(e_process(plain_day(bad=0))).all()


def test_fewer_factors_are_a_mixture_too() -> None:
    one = e_process_of(plain_day(bad=6), np.float64(1), mixture=Mixture((3,), (1,)))
    assert one[-1] < 1
