"""Counts of a day, as plain as they come."""

import numpy as np

from core.watch_counts import BUCKETS, Counts


def plain_day(*, requests: float = 1000, bad: float = 2, days: int = 4) -> Counts:
    """Every bucket alike, new and old."""
    shape = (days, BUCKETS)
    return Counts(
        np.full(BUCKETS, float(requests)),
        np.full(BUCKETS, float(bad)),
        np.full(shape, float(requests)),
        np.full(shape, float(bad)),
    )


def with_bad(counts: Counts, begin: int, end: int, bad: float) -> Counts:
    """The same with so many bad requests in some buckets of the new version."""
    found = counts.bad.copy()
    found[..., begin:end] = bad
    return Counts(counts.requests, found, counts.baseline_requests, counts.baseline_bad)
