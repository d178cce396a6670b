"""When a watch looks: every bucket has at most one counterpart, at the same time on the wall, and none that is cut out."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from core.watch_counts import BUCKETS
from core.watch_days import (
    BUCKET,
    LAG_DAYS,
    Interval,
    bucket_starts,
    closed_buckets,
    counterparts,
    first_bucket,
    runs_of,
)

BERLIN = ZoneInfo("Europe/Berlin")
zones = st.sampled_from(("UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Apia")).map(
    ZoneInfo
)
# Half of them within a month of one of the changes of 2026.
times = st.one_of(
    st.integers(0, 365 * 86400), st.integers(85 * 86400, 115 * 86400), st.integers(295 * 86400, 325 * 86400)
).map(lambda seconds: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds))
lags = st.sampled_from(LAG_DAYS)


@given(times)
def test_the_first_bucket_begins_after_the_release_at_whole_five_minutes(released: datetime) -> None:
    first = first_bucket(released)
    assert released <= first < released + BUCKET
    assert first.timestamp() % 300 == 0
    assert len(bucket_starts(first)) == BUCKETS


@given(times, lags, zones)
def test_a_counterpart_is_at_the_same_time_on_the_wall(released: datetime, days: int, zone: ZoneInfo) -> None:
    first = first_bucket(released)
    for start, found in zip(bucket_starts(first), counterparts(first, days, zone), strict=True):
        if found is not None:
            here, there = (one.astimezone(zone).replace(tzinfo=None) for one in (start, found))
            assert here - there == timedelta(days=days)
            assert timedelta(hours=-2) <= start - found - timedelta(days=days) <= timedelta(hours=2)


def test_an_hour_that_the_clocks_jumped_over_has_no_counterpart() -> None:
    # Europe/Berlin, 29 March 2026: no 02:00 to 03:00.
    first = datetime(2026, 4, 4, 22, tzinfo=UTC)
    found = counterparts(first, 7, BERLIN)
    assert sum(one is None for one in found) == 12
    assert found[24:36] == (None,) * 12


@given(times, lags, zones, st.integers(0, BUCKETS - 1), st.integers(1, 20 * 3600))
def test_what_is_cut_out_has_no_counterpart_and_the_rest_keeps_its(
    released: datetime, days: int, zone: ZoneInfo, bucket: int, seconds: int
) -> None:
    first = first_bucket(released)
    whole = counterparts(first, days, zone)
    begin = (whole[bucket] or first) - timedelta(seconds=seconds % 300)
    hole = Interval(begin, begin + timedelta(seconds=seconds), "an incident")
    for before, after in zip(whole, counterparts(first, days, zone, [hole]), strict=True):
        assert after == before or (before is not None and after is None and hole.meets(before))
        assert after is None or not hole.meets(after)


@given(times, lags, zones)
def test_runs_are_the_same_buckets_and_few(released: datetime, days: int, zone: ZoneInfo) -> None:
    starts = counterparts(first_bucket(released), days, zone)
    runs = runs_of(starts)
    back: list[datetime | None] = [None] * BUCKETS
    for number, start, count in runs:
        for index in range(count):
            assert back[number + index] is None
            back[number + index] = start + BUCKET * index
    assert tuple(back) == starts
    assert len(runs) <= 3


@given(times, st.integers(-1000, 100_000), st.integers(0, 600))
def test_a_bucket_is_closed_once_its_last_scrape_can_be_there(released: datetime, seconds: int, lag: int) -> None:
    first = first_bucket(released)
    now, waits = first + timedelta(seconds=seconds), timedelta(seconds=lag)
    closed = closed_buckets(first, now, waits)
    assert 0 <= closed <= BUCKETS
    if closed:
        assert first + BUCKET * closed + waits <= now
    if closed < BUCKETS:
        assert first + BUCKET * (closed + 1) + waits > now
