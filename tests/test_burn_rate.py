"""The absolute guard: it burns as the Site Reliability Workbook says, and acts on evidence alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.burn_rate import burn_process, burns, first_burn_alarm
from core.sequential_test import threshold
from core.watch_counts import BUCKETS

AT = threshold(4)
ONE = np.float64(1)


def day(
    requests: float, bad: float, begin: int = 0, end: int = BUCKETS, before: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    found = np.full(BUCKETS, float(before))
    found[begin:end] = bad
    return np.full(BUCKETS, float(requests)), found


def test_a_fast_burn_is_seen_after_minutes_and_ends_with_its_short_window() -> None:
    # 2 % of the requests for an hour, with 0.1 % allowed: twenty times the budget's rate.
    burning = burns(*day(1000, 20, 100, 112), 0.999)
    assert not burning[:100].any()
    assert burning[108:112].all()
    assert not burning[112:].any()


def test_a_slow_burn_needs_the_long_window() -> None:
    # 1 %: ten times, below 14.4; over six hours more than 6.
    burning = burns(*day(1000, 10, 100), 0.999)
    assert not burning[:142].any()
    assert burning[172:].all()


def test_a_share_that_is_allowed_never_burns_or_acts() -> None:
    requests, bad = day(1000, 1)
    assert not burns(requests, bad, 0.999).any()
    assert math.isinf(first_burn_alarm(requests, bad, 0.999, ONE, AT))


def test_one_bad_request_of_a_few_burns_and_is_no_evidence() -> None:
    requests, bad = day(3, 1, 100, 101)
    assert burns(requests, bad, 0.999).any()
    assert math.isinf(first_burn_alarm(requests, bad, 0.999, ONE, AT))


def test_a_total_failure_acts_within_its_bucket_and_a_burn_within_its_window() -> None:
    assert first_burn_alarm(*day(1000, 1000, 100), 0.999, ONE, AT) == 100
    assert 100 <= first_burn_alarm(*day(1000, 20, 100), 0.999, ONE, AT) <= 110


def test_evidence_at_the_very_limit_stays_small() -> None:
    random = np.random.default_rng(1)
    requests = np.full((2000, BUCKETS), 1000.0)
    # Six times the budget, all day: the border of what is allowed.
    bad = random.poisson(6.0, (2000, BUCKETS)).astype(float)
    reached = burn_process(requests, bad, 0.999, np.ones(2000)).max(axis=-1) >= AT
    assert reached.mean() <= 1 / AT


@given(st.sampled_from([0, 1, -0.5, 1.5, 100]))
def test_an_objective_without_a_budget_is_refused(objective: float) -> None:
    with pytest.raises(ValueError, match="leaves no budget"):
        burns(*day(1, 0), objective)
