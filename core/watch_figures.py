"""The figures of one metric of a watch, made of its counts and its verdict: what the report, the text and the charts tell alike."""

import math
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from core.detectable_effect import rounded_up
from core.watch_counts import BUCKETS_AN_HOUR, HOURS, Array, Counts, hourly
from core.watch_days import BUCKET
from core.watch_verdict import MetricVerdict

# The 97.5 % quantile of the normal distribution: of an interval of 95 %.
_QUANTILE = 1.959964


@dataclass(frozen=True)
class MetricFigures:
    """A metric's figures. None: nobody knows.

    Args:
        requests, bad: of the new version, in all buckets that are over and known; `baseline_…`: of the same buckets of all days before together.
        largest: the largest E; `largest_at`, `alarm_at`: the end of its bucket.
        detectable: the smallest factor that would have been found, never told smaller than it is; None: no factor. detectable_share: the same of a share of bad requests.
    """

    metric: str
    days: int
    coverage: float
    dispersion: float | None
    threshold: float
    requests: int | None
    bad: int | None
    baseline_requests: int | None
    baseline_bad: int | None
    largest: float
    largest_bucket: int | None
    largest_at: datetime | None
    alarm: int | None
    alarm_at: datetime | None
    detectable: float | None
    detectable_share: float | None
    acts: bool
    why_not: str


@dataclass(frozen=True)
class Shares:
    """By hour: the share of bad requests and its interval, each (24,); NaN where nothing is known or nothing was requested."""

    share: Array
    low: Array
    high: Array


def figures_of(found: MetricVerdict, counts: Counts | None, closed: int, first: datetime) -> MetricFigures:
    """Given a metric's verdict, its counts (None: there are none), how many buckets are over and when the first began, return its figures."""
    process = np.asarray(found.process[:closed], dtype=float)
    largest = int(np.argmax(process)) if process.size else None
    totals = (None, None, None, None) if counts is None else _totals(counts)
    return MetricFigures(
        metric=found.metric,
        days=found.days,
        coverage=found.coverage,
        dispersion=found.dispersion if math.isfinite(found.dispersion) else None,
        threshold=found.threshold,
        requests=totals[0],
        bad=totals[1],
        baseline_requests=totals[2],
        baseline_bad=totals[3],
        largest=1.0 if largest is None else float(process[largest]),
        largest_bucket=largest,
        largest_at=None if largest is None else end_of(largest, first),
        alarm=found.alarm,
        alarm_at=None if found.alarm is None else end_of(found.alarm, first),
        detectable=rounded_up(found.detectable_factor),
        detectable_share=rounded_up(found.detectable_share),
        acts=found.acts,
        why_not=found.why_not,
    )


def end_of(bucket: int, first: datetime) -> datetime:
    """When a bucket is over."""
    return first + (bucket + 1) * BUCKET


def share_text(bad: int | None, requests: int | None) -> str:
    """A share of requests as text: `0.12 %`; "not known" where it is not, or there was no request."""
    if bad is None or not requests:
        return "share not known"
    percent = 100 * bad / requests
    return f"{percent:.2g} %" if percent < 10 else f"{percent:.0f} %"


def hourly_shares(requests: Array, bad: Array, dispersion: float) -> Shares:
    """Given counts by bucket, of one day (288,) or of several together (days, 288), return each hour's share of bad requests with its interval of 95 %.

    Wilson's score interval (Wilson 1927; Brown, Cai & DasGupta 2001, "Interval Estimation for a Binomial Proportion", §3.1.1), of counts that are divided by
    the dispersion, as the test divides them. An hour's share is that of its known buckets.
    """
    known = np.isfinite(requests) & np.isfinite(bad)
    n, x = (hourly(np.where(known, one, 0)).reshape(-1, HOURS).sum(axis=0) for one in (requests, bad))
    told = n > 0
    n, x = np.where(told, n, 1) / dispersion, np.where(told, np.minimum(x, n), 0) / dispersion
    share, squared = x / n, _QUANTILE**2
    middle = (share + squared / (2 * n)) / (1 + squared / n)
    half = _QUANTILE / (1 + squared / n) * np.sqrt(share * (1 - share) / n + squared / (4 * n**2))
    low, high = np.clip(middle - half, 0, share), np.clip(middle + half, share, 1)
    return Shares(*(np.where(told, one, np.nan) for one in (share, low, high)))


def middle_of_hours() -> Array:
    """The bucket in the middle of each hour, for charts."""
    return np.asarray((np.arange(HOURS) + 0.5) * BUCKETS_AN_HOUR)


def _totals(counts: Counts) -> tuple[int | None, int | None, int | None, int | None]:
    """Requests and bad ones, new and before; those of before in the buckets alone of which the new version's are known."""
    now = np.isfinite(counts.requests)
    old, old_bad = (np.where(now, one, np.nan) for one in (counts.baseline_requests, counts.baseline_bad))
    return _total(counts.requests), _total(counts.bad), _total(old), _total(old_bad)


def _total(counts: Array) -> int | None:
    return round(float(np.nansum(counts))) if np.isfinite(counts).any() else None
