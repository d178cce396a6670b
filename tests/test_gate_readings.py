"""From samples to counts: the first error is seen, a restart hides nothing, and what is missing, stale, or no number is told from zero."""

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.counters import Point, Series, UnusableSeriesError, growth, scrape_times
from core.environment_gates import Gates
from core.gate_readings import PodSide, SideSeries, buckets_selector, filled, read_errors, read_slow, window_before

AT = 10_000.0
START = AT - 300
WINDOW = (START, AT)
EVERY = 15
GATES = Gates(prometheus_url="http://127.0.0.1:9090")
SIDE = PodSide(names=("api-7f-a", "api-7f-b"), replica_sets=("api-7f",))
TIMES = [AT - 5 - EVERY * step for step in range(100)][::-1]


def series(values: Iterable[Point], **labels: str) -> Series:
    return Series({"__name__": "http_requests_total", **labels}, tuple(values))


def rising(each: float, *, begin: float = 0.0, since: float = 0.0, until: float = AT) -> list[Point]:
    """Samples at the scrapes of the window and a little before, that grow by so much at each."""
    times = [time for time in TIMES if max(since, START - 120) <= time <= until]
    return [(time, begin + each * index) for index, time in enumerate(times)]


def up(pod: str, times: Iterable[float] = TIMES, value: float = 1) -> Series:
    return Series({"__name__": "up", "pod": pod}, tuple((time, value) for time in times))


BOTH_UP = (up("api-7f-a"), up("api-7f-b"))


def requests(*given: Series, targets: tuple[Series, ...] | None = BOTH_UP) -> SideSeries:
    return SideSeries(given, None, targets)


def grown(points: list[Point], scrapes: list[float] = TIMES) -> tuple[float, int, bool]:
    told = growth(series(points), start=START, scrapes=scrapes, fresh=120)
    return told.amount, told.resets, told.gap


# One counter


def test_a_counter_grows_from_its_last_sample_before_the_window() -> None:
    assert grown([(START - 10, 100), (START + 5, 103), (AT - 5, 110)]) == (10, 0, False)


def test_the_first_errors_are_seen_though_their_series_begins_with_them() -> None:
    assert grown([(AT - 35, 4), (AT - 20, 4), (AT - 5, 4)]) == (4, 0, False)
    assert grown([(AT - 5, 1)]) == (1, 0, False)


def test_a_new_pod_counts_from_zero() -> None:
    assert grown([(AT - 20, 30), (AT - 5, 50)], scrapes=[AT - 20, AT - 5]) == (50, 0, False)


def test_after_a_gap_in_the_scrapes_the_growth_before_is_unknown_not_all_of_it() -> None:
    assert grown([(AT - 20, 1_000_000), (AT - 5, 1_000_050)], scrapes=[AT - 1000, AT - 20, AT - 5]) == (50, 0, True)


def test_a_counter_that_began_anew_counts_all_since() -> None:
    assert grown([(START - 10, 100), (START + 5, 110), (START + 20, 7), (AT - 5, 9)]) == (19, 1, False)


def test_a_counter_without_a_sample_in_the_window_did_not_grow() -> None:
    assert grown([(START - 10, 100)]) == (0, 0, False)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
def test_what_no_counter_can_be_is_refused(value: float) -> None:
    with pytest.raises(UnusableSeriesError, match="which no counter has"):
        grown([(AT - 20, 1.0), (AT - 5, value)])


def test_samples_out_of_order_are_refused() -> None:
    with pytest.raises(UnusableSeriesError, match="out of order"):
        grown([(AT - 5, 1.0), (AT - 20, 2.0)])


@given(st.lists(st.tuples(st.integers(0, 50), st.booleans()), min_size=1, max_size=40))
def test_every_request_that_was_scraped_is_counted_whatever_restarts(steps: list[tuple[int, bool]]) -> None:
    """Each step: so many requests, then a scrape; a restart only right after a scrape, so that nothing is lost."""
    value, points, total = 0.0, [], 0
    for (amount, restarts), time in zip(steps, TIMES[-len(steps) :], strict=True):
        value, total = value + amount, total + amount
        points.append((time, value))
        value = 0.0 if restarts else value
    told = growth(series(points), start=points[0][0] - 1, scrapes=TIMES, fresh=120)
    # A restart that is followed by as many requests at once cannot be seen in the samples; what was counted before is then missed, as by Prometheus.
    assert told.amount <= total
    if not any(restarts for _, restarts in steps):
        assert told.amount == total


@given(st.lists(st.integers(0, 50), min_size=1, max_size=20), st.lists(st.integers(0, 50), min_size=1, max_size=20))
def test_a_restart_hides_nothing_that_was_scraped_before_or_after_it(before: list[int], after: list[int]) -> None:
    values = [float(10_000 + sum(before[: n + 1])) for n in range(len(before))] + [
        float(sum(after[: n + 1])) for n in range(len(after))
    ]
    points = [(START - 1, 10_000.0), *zip([START + 1 + n for n in range(len(values))], values, strict=True)]
    assert grown(points) == (sum(before) + sum(after), 1, False)


def test_a_counter_that_was_away_for_long_and_came_again_while_its_pod_was_scraped_begins_anew() -> None:
    assert grown([(START - 500, 100), (AT - 20, 30), (AT - 5, 50)]) == (50, 0, False)


# One side


def test_failed_and_all_requests_are_told_by_the_label() -> None:
    told = read_errors(
        GATES,
        SIDE,
        requests(
            series(rising(10), pod="api-7f-a", status="200"),
            series(rising(1), pod="api-7f-b", status="503"),
            series(rising(1), pod="api-7f-b", status="404"),
        ),
        WINDOW,
    )
    assert (told.bad, told.total, told.doubt, told.restarted) == (20, 240, "", 0)


def test_without_an_error_series_the_errors_are_zero_only_because_the_others_say_so() -> None:
    told = read_errors(GATES, SIDE, requests(series(rising(10), pod="api-7f-a", status="200")), WINDOW)
    assert (told.bad, told.total, told.doubt) == (0, 200, "")
    misnamed = read_errors(GATES, SIDE, requests(series(rising(10), pod="api-7f-a", code="200")), WINDOW)
    assert (misnamed.bad, misnamed.total) == (None, None)
    assert "has no label status" in misnamed.doubt


def test_no_series_is_not_zero_requests() -> None:
    told = read_errors(GATES, SIDE, requests(), WINDOW)
    assert (told.bad, told.total) == (None, None)
    assert "no series of api-7f-a, api-7f-b" in told.doubt


def test_a_nan_makes_the_whole_reading_unknown() -> None:
    points = [*rising(10)[:-1], (AT - 5, math.nan)]
    told = read_errors(GATES, SIDE, requests(series(points, pod="api-7f-a", status="200")), WINDOW)
    assert (told.bad, told.total) == (None, None)
    assert 'http_requests_total{pod="api-7f-a",status="200"} has the value nan' in told.doubt


def test_old_samples_are_a_doubt() -> None:
    late = AT - 200
    stale = tuple(up(pod, [time for time in TIMES if time < late]) for pod in SIDE.names)
    told = read_errors(
        GATES, SIDE, requests(series(rising(10, until=late), pod="api-7f-a", status="200"), targets=stale), WINDOW
    )
    assert told.doubt == "the newest sample of api-7f-a, api-7f-b is 215 s old, more than 120 s"


def test_a_ready_pod_that_is_not_scraped_is_a_doubt_even_if_the_others_do_well() -> None:
    one = series(rising(10), pod="api-7f-a", status="200")
    for targets in ((up("api-7f-a"),), (up("api-7f-a"), up("api-7f-b", value=0))):
        told = read_errors(GATES, SIDE, requests(one, targets=targets), WINDOW)
        assert (told.total, told.doubt) == (200, "Prometheus does not scrape api-7f-b")
    unasked = read_errors(GATES.model_copy(update={"targets": None}), SIDE, requests(one, targets=None), WINDOW)
    assert unasked.doubt == ""


def test_a_pod_that_is_gone_still_counts_by_its_replica_sets_name() -> None:
    gone = series(rising(2, until=AT - 100), pod="api-7f-gone", status="500")
    told = read_errors(GATES, SIDE, requests(series(rising(10), pod="api-7f-a", status="200"), gone), WINDOW)
    assert (told.bad, told.doubt) == (26, "")


def test_a_restarted_pod_is_told() -> None:
    points = rising(10, begin=500, until=AT - 100) + rising(10, since=AT - 95)
    told = read_errors(GATES, SIDE, requests(series(points, pod="api-7f-a", status="200")), WINDOW)
    assert (told.restarted, told.bad) == (1, 0)


def test_a_gap_in_the_scrapes_is_a_doubt() -> None:
    targets = (up("api-7f-a", [*TIMES[:20], *TIMES[-5:]]), up("api-7f-b"))
    told = read_errors(
        GATES,
        SIDE,
        requests(series(rising(10, since=TIMES[-5]), pod="api-7f-a", status="200"), targets=targets),
        WINDOW,
    )
    assert told.doubt == "api-7f-a: not scraped for a time"


# Latency


def bucket(each: float, le: str, pod: str = "api-7f-a") -> Series:
    return Series({"__name__": "http_request_duration_seconds_bucket", "pod": pod, "le": le}, tuple(rising(each)))


@pytest.mark.parametrize("le", ["1", "1.0"])
def test_slow_requests_are_those_above_the_bucket(le: str) -> None:
    told = read_slow(GATES, SIDE, SideSeries((), (bucket(9, le), bucket(10, "+Inf")), BOTH_UP), WINDOW)
    assert (told.bad, told.total, told.doubt) == (20, 200, "")


def test_a_bound_that_is_no_bucket_is_unknown_not_zero() -> None:
    told = read_slow(GATES, SIDE, SideSeries((), (bucket(10, "+Inf"),), BOTH_UP), WINDOW)
    assert (told.bad, told.total) == (None, None)
    assert told.doubt == "the histogram has no bucket of 1 seconds beside the one of all requests"
    one_pod = (bucket(9, "1"), bucket(10, "+Inf"), bucket(10, "+Inf", pod="api-7f-b"))
    assert read_slow(GATES, SIDE, SideSeries((), one_pod, BOTH_UP), WINDOW).total is None


def test_buckets_that_contradict_each_other_are_unknown() -> None:
    told = read_slow(GATES, SIDE, SideSeries((), (bucket(11, "1"), bucket(10, "+Inf")), BOTH_UP), WINDOW)
    assert (told.bad, "contradict" in told.doubt) == (None, True)


def test_no_buckets_are_unknown() -> None:
    told = read_slow(GATES, SIDE, SideSeries((), (), BOTH_UP), WINDOW)
    assert (told.total, "empty is not zero" in told.doubt) == (None, True)


# Selectors


def test_a_selector_names_the_pods_of_the_replica_sets_and_those_that_are_ready() -> None:
    side = PodSide(names=("api.1-x",), replica_sets=("api-7f",))
    assert filled('m{pod=~"{pods}"}', side.pattern) == 'm{pod=~"api-7f-[a-z0-9]+|api\\\\.1-x"}'


def test_the_buckets_selector_keeps_what_stands_there() -> None:
    assert buckets_selector('d{pod="a"}', 1.0) == 'd{pod="a",le=~"1|1\\\\.0|\\\\+Inf"}'
    assert buckets_selector('d{pod="a", }', 0.25) == 'd{pod="a",le=~"0\\\\.25|\\\\+Inf"}'


def test_only_scrapes_that_succeeded_count_as_seen() -> None:
    series_of_up = Series({"pod": "a"}, ((1, 1), (2, 0), (3, 1)))
    assert scrape_times([series_of_up, Series({"pod": "a"}, ((2.5, 1),))], "pod") == {"a": [1, 2.5, 3]}


def test_nothing_before_the_shift_is_looked_at() -> None:
    assert window_before(GATES, AT, None) == (AT - 300, AT)
    assert window_before(GATES, AT, AT - 100) == (AT - 100, AT)
    assert window_before(GATES, AT, AT - 1000) == (AT - 300, AT)
    assert window_before(GATES, AT, AT + 50) == (AT, AT)
    counted = requests(series(rising(10), pod="api-7f-a", status="200"))
    assert read_errors(GATES, SIDE, counted, (AT - 100, AT)).total == 70
    assert read_errors(GATES, SIDE, counted, (AT, AT)).total == 0
