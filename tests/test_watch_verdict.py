"""What a watch says: healthy only when a trouble would have been found; never on too little, too few days, or a blind observer."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.simulated_days import Setting, simulate
from core.detectable_effect import smallest_detectable_factor, smallest_detectable_share
from core.placebo import is_confirmed, placebo_share
from core.sequential_test import e_process, first_alarm, threshold
from core.watch_counts import BUCKETS, Counts
from core.watch_verdict import Demands, judge
from tests.fix_counts import plain_day, with_bad

WORSE = with_bad(plain_day(), 100, BUCKETS, 12)


def unseen(counts: Counts, begin: int, end: int) -> Counts:
    requests, bad = counts.requests.copy(), counts.bad.copy()
    requests[begin:end] = bad[begin:end] = np.nan
    return replace(counts, requests=requests, bad=bad)


def test_a_day_like_those_before_is_healthy_and_says_what_would_have_been_found() -> None:
    found = judge({"errors": plain_day(), "latency": plain_day(bad=50)})
    assert found.verdict == "healthy"
    assert all("would have been found" in one for one in found.reasons)


def test_a_worse_day_is_degraded_and_says_when_and_by_how_much_evidence() -> None:
    found = judge({"errors": WORSE, "latency": plain_day()})
    assert found.verdict == "degraded"
    (reason,) = found.reasons
    assert reason.startswith("errors: E = ")
    assert found.metrics[0].alarm is not None
    assert 100 <= found.metrics[0].alarm < 112


def test_a_day_of_which_too_little_was_seen_is_blind_and_never_healthy() -> None:
    found = judge({"errors": unseen(plain_day(), 50, 150)})
    assert found.verdict == "blind"
    assert found.reasons == ("errors: 65% of the buckets were seen; 90% are asked for",)


def test_a_trouble_that_was_seen_counts_even_if_the_observer_was_blind_afterwards() -> None:
    assert judge({"errors": unseen(WORSE, 150, BUCKETS)}).verdict == "degraded"


def test_three_requests_an_hour_are_insufficient_whether_one_failed_or_none() -> None:
    for bad in (0.0, 1.0):
        day = with_bad(plain_day(requests=0.25, bad=0), 100, 101, bad / 4)
        assert judge({"errors": day}).verdict == "insufficient"


def test_three_requests_an_hour_that_all_fail_all_day_are_evidence() -> None:
    assert judge({"errors": with_bad(plain_day(requests=0.25, bad=0), 0, BUCKETS, 0.25)}).verdict == "degraded"


def test_traffic_without_any_bad_request_before_is_judged_by_what_would_have_been_found() -> None:
    found = judge({"errors": plain_day(bad=0)})
    # Nothing was ever bad: no factor of nothing would have been found.
    assert found.verdict == "insufficient"
    assert "no trouble whatever would have been found" in found.reasons[0]


@pytest.mark.parametrize("days", [0, 1])
def test_without_days_to_compare_with_nothing_is_said(days: int) -> None:
    found = judge(
        {
            "errors": replace(
                WORSE, baseline_requests=WORSE.baseline_requests[:days], baseline_bad=WORSE.baseline_bad[:days]
            )
        }
    )
    assert found.verdict in {"insufficient", "blind"}
    assert not found.metrics[0].acts


def test_with_fewer_than_four_days_an_alarm_advises_and_sends_nothing_back() -> None:
    found = judge(
        {"errors": replace(WORSE, baseline_requests=WORSE.baseline_requests[:3], baseline_bad=WORSE.baseline_bad[:3])}
    )
    assert found.verdict == "insufficient"
    assert found.reasons[0].startswith("errors: looks worse (after bucket 103), but 3 release-free days")
    assert found.metrics[0].alarm is not None


def test_more_signals_ask_for_more_evidence() -> None:
    assert judge({"errors": WORSE}, signals=4).metrics[0].threshold == pytest.approx(80)
    assert judge({"errors": WORSE}).metrics[0].threshold == pytest.approx(20)


def test_where_release_free_days_look_the_same_an_alarm_is_not_believed() -> None:
    largest = judge({"errors": WORSE}).metrics[0].largest
    assert judge({"errors": WORSE}, placebos={"errors": [1.0] * 19}).verdict == "degraded"
    found = judge({"errors": WORSE}, placebos={"errors": [1.0] * 18 + [largest * 2]})
    assert found.verdict == "insufficient"
    assert "of 19 release-free days too many look the same" in found.reasons[0]


def test_a_watch_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no metric is watched"):
        judge({})


def test_so_far_the_coverage_is_that_of_the_closed_buckets() -> None:
    found = judge({"errors": unseen(plain_day(), 100, BUCKETS)}, closed=100, demands=Demands(factor=20))
    assert found.metrics[0].coverage == 1


@given(st.lists(st.floats(0.1, 100), min_size=0, max_size=40), st.floats(0.1, 100))
def test_the_share_of_placebos_is_a_rank(placebos: list[float], observed: float) -> None:
    share = placebo_share(observed, placebos)
    assert 1 / (1 + len(placebos)) <= share <= 1
    assert (is_confirmed(observed, placebos) is None) == (len(placebos) < 19)


@pytest.mark.parametrize("noise", ["poisson", "burst"])
def test_what_is_said_to_be_detectable_is_found_about_four_times_in_five(noise: str) -> None:
    at, days = threshold(3), 300
    one = simulate(Setting(noise, 346), 1, np.random.default_rng(3))
    factor = smallest_detectable_factor(
        Counts(one.requests[0], one.bad[0], one.baseline_requests[0], one.baseline_bad[0]), at
    )
    found = first_alarm(e_process(simulate(Setting(noise, 346, factor), days, np.random.default_rng(4))), at)
    assert 0.55 < np.isfinite(found).mean() < 0.99
    assert not math.isinf(factor)


def test_a_thousandfold_of_nothing_is_not_detectable() -> None:
    assert math.isinf(smallest_detectable_factor(plain_day(bad=0), threshold(3)))


@pytest.mark.parametrize(("known", "verdict"), [(1, "insufficient"), (3, "insufficient"), (4, "degraded")])
def test_days_of_which_nothing_is_known_are_none_to_compare_with(known: int, verdict: str) -> None:
    requests, bad = WORSE.baseline_requests.copy(), WORSE.baseline_bad.copy()
    requests[known:] = bad[known:] = np.nan
    found = judge({"errors": replace(WORSE, baseline_requests=requests, baseline_bad=bad)})
    assert found.verdict == verdict, found.reasons
    assert found.metrics[0].days == known


def test_short_pieces_of_trouble_are_no_healthy_day() -> None:
    day = plain_day()
    bad = day.bad.copy()
    bad[::12] = 0.45 * day.requests[::12]
    found = judge({"errors": replace(day, bad=bad)})
    assert found.verdict == "insufficient"
    assert any("in short pieces" in one for one in found.reasons)


@pytest.mark.parametrize("left", [0, 0.01, 0.09])
def test_hours_without_requests_or_next_to_none_on_one_side_are_not_compared(left: float) -> None:
    day = plain_day()
    requests, bad = day.requests.copy(), day.bad.copy()
    requests[24:264] *= left
    bad[24:264] *= left
    found = judge({"errors": replace(day, requests=requests, bad=bad)})
    assert found.verdict == "insufficient"
    assert any("of the hours only" in one for one in found.reasons)


def test_a_quiet_day_or_a_busier_one_is_compared() -> None:
    day = plain_day()
    for times in (0.3, 20):
        assert judge({"errors": replace(day, requests=day.requests * times, bad=day.bad * times)}).verdict == "healthy"
    # Of an earlier day that is not known nothing is usual.
    requests = day.baseline_requests.copy()
    requests[0, :200] = np.nan
    few = replace(day, requests=day.requests * 0.3, bad=day.bad * 0.3, baseline_requests=requests)
    assert judge({"errors": few}).metrics[0].hours_compared == 1


def test_total_failure_is_told_with_nothing_to_compare_with_and_in_hours_that_were_empty_before() -> None:
    day = with_bad(plain_day(), 0, BUCKETS, 1000)
    alone = replace(day, baseline_requests=day.baseline_requests[:0], baseline_bad=day.baseline_bad[:0])
    found = judge({"errors": alone}, closed=1)
    assert found.verdict != "healthy"
    assert found.advised[0].startswith("errors: 1000 of 1000 requests bad in 1 bucket, first in bucket 0")
    empty = plain_day()
    old, old_bad = empty.baseline_requests.copy(), empty.baseline_bad.copy()
    old[:, :96] = old_bad[:, :96] = 0
    night = with_bad(replace(empty, baseline_requests=old, baseline_bad=old_bad), 0, 96, 1000)
    assert judge({"errors": night}).verdict == "insufficient"
    assert judge({"errors": night}).advised


def test_what_was_always_so_is_not_told_as_failing() -> None:
    assert judge({"errors": plain_day(bad=600)}).advised == ()


def test_a_trouble_lasts_while_it_goes_on_and_for_an_hour() -> None:
    day = with_bad(plain_day(), 10, 40, 30)
    assert judge({"errors": day}, closed=30).lasts
    found = judge({"errors": day}, closed=180)
    assert (found.verdict, found.lasts) == ("degraded", False)


def test_few_weeks_advise_and_that_is_said() -> None:
    few = replace(WORSE, baseline_requests=WORSE.baseline_requests[:2], baseline_bad=WORSE.baseline_bad[:2])
    found = judge({"errors": few})
    assert found.verdict == "insufficient"
    assert "looks worse" in found.advised[0]


RARELY = Demands(ignored=0.001)


@pytest.mark.parametrize("bad", [0, 0.001])
def test_where_hardly_a_request_ever_failed_a_share_is_asked_for_and_not_a_multiple(bad: float) -> None:
    quiet = judge({"errors": plain_day(requests=600, bad=bad)}, demands=RARELY)
    assert quiet.verdict == "healthy", quiet.reasons
    assert re.search(r"errors: a share of 0\.00\d+ % bad requests would have been found", quiet.reasons[0])
    assert judge({"errors": plain_day(requests=600, bad=bad)}).verdict == "insufficient"
    # So few requests that not even ten bad ones among them would be as small a share.
    assert judge({"errors": plain_day(requests=10, bad=bad)}, demands=RARELY).verdict == "insufficient"


def test_a_share_that_would_have_been_found_is_found_in_four_of_five_days() -> None:
    day, random = plain_day(requests=600, bad=0), np.random.default_rng(11)
    share = smallest_detectable_share(day, 60)
    days = 500
    bad = random.poisson(600 * share, (days, BUCKETS)).astype(float)
    many = Counts(
        np.full((days, BUCKETS), 600.0), bad, np.full((days, 4, BUCKETS), 600.0), np.zeros((days, 4, BUCKETS))
    )
    assert np.isfinite(first_alarm(e_process(many), 60)).mean() > 0.75


def test_days_that_hardly_ever_fail_raise_no_false_alarm() -> None:
    random, days = np.random.default_rng(12), 500
    for expected in (0.2, 3):
        new, old = (
            random.poisson(expected / BUCKETS, shape).astype(float) for shape in ((days, BUCKETS), (days, 4, BUCKETS))
        )
        many = Counts(np.full(new.shape, 600.0), new, np.full(old.shape, 600.0), old)
        assert np.isfinite(first_alarm(e_process(many), 20)).mean() <= 0.05


def test_what_failed_in_pieces_where_nothing_failed_before_is_no_pass() -> None:
    day = plain_day(requests=600, bad=0)
    bad = np.zeros(BUCKETS)
    bad[::24] = 40
    found = judge({"errors": replace(day, bad=bad)}, demands=RARELY)
    assert found.verdict != "healthy", found.reasons
