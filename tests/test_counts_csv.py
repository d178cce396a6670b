"""A recorded day, read: nothing is guessed, and what is wrong is told with its line."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.counts_csv import read_recorded_day
from core.watch_counts import BUCKETS

HEADER = "bucket start,metric,new n,new bad,day 1 n,day 1 bad,day 2 n,day 2 bad"
GOOD = "2026-11-26T10:00:00Z,errors,100,1,90,0,80,2"


def test_each_metric_has_its_counts_and_what_is_empty_is_unknown() -> None:
    rows = [HEADER, GOOD, "2026-11-26T11:10:00+01:00,errors,,,90,3,,", "2026-11-26T10:00:00Z,latency,1,1,1,0,1,0", ""]
    day = read_recorded_day(rows)
    assert day.begin == datetime(2026, 11, 26, 10, tzinfo=UTC)
    assert set(day.metrics) == {"errors", "latency"}
    errors = day.metrics["errors"]
    assert (errors.requests[0], errors.bad[0], errors.days) == (100, 1, 2)
    assert list(errors.baseline_bad[:, 0]) == [0, 2]
    assert errors.baseline_requests[0, 2] == 90
    assert np.isnan([errors.requests[1], errors.requests[2], errors.bad[2], errors.baseline_requests[1, 2]]).all()
    assert errors.compared.sum() == errors.seen.sum() == 1


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (["bucket start,metric,n,bad", GOOD], "line 1: 4 columns"),
        ([HEADER + ",x", GOOD], "line 1: 9 columns"),
        ([HEADER], "line 2: there is no bucket"),
        ([HEADER, GOOD + ",1"], "line 2: 9 cells; the header has 8"),
        ([HEADER, GOOD.replace("2026-11-26T10:00:00Z", "yesterday")], "line 2: 'yesterday' is no time"),
        ([HEADER, GOOD.replace("Z", "")], "line 2: 2026-11-26T10:00:00 has no time zone"),
        ([HEADER, GOOD.replace("errors", "")], "line 2: the metric has no name"),
        ([HEADER, GOOD.replace("100", "many")], "line 2: 'many' is no number"),
        ([HEADER, GOOD.replace("100", "NaN")], "line 2: NaN is no count"),
        ([HEADER, GOOD.replace("100", "-1")], "line 2: -1 is no count"),
        ([HEADER, GOOD.replace("100,1", "100,101")], "line 2: 101 bad of 100 requests"),
        ([HEADER, GOOD.replace("100,1", ",1")], "line 2: of requests and bad ones either both are known or neither"),
        ([HEADER, GOOD, GOOD], "line 3: the bucket stands in line 2 already"),
        (
            [HEADER, GOOD, GOOD.replace("10:00", "10:01")],
            "line 3: 2026-11-26T10:01:00+00:00 is no whole number of 5 minutes",
        ),
        ([HEADER, GOOD, GOOD.replace("-26", "-27")], "line 3: 2026-11-27T10:00:00+00:00 is more than a day"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(rows: list[str], told: str) -> None:
    with pytest.raises(ValueError, match="line") as error:
        read_recorded_day(rows)
    assert str(error.value).startswith(told)


@given(st.lists(st.integers(0, BUCKETS - 1), unique=True, min_size=1), st.randoms())
def test_the_order_of_rows_does_not_matter(buckets: list[int], random: object) -> None:
    begin = datetime(2026, 11, 26, 10, tzinfo=UTC)
    rows = [
        f"{(begin + timedelta(minutes=5 * one)).isoformat()},errors,{one + 1},0,5,1,5,1"
        for one in sorted({0, *buckets})
    ]
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (read_recorded_day([HEADER, *some]).metrics["errors"] for some in (rows, shuffled))
    assert np.array_equal(first.requests, second.requests, equal_nan=True)
    assert np.nansum(first.requests) == sum({0, *buckets}) + len({0, *buckets})
