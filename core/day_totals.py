"""A day's bad requests against those that the days before lead one to expect, as totals: what a verdict says beside the test."""

import numpy as np

from core.watch_counts import Counts, hourly

# Of the requests that an earlier day had in the same hour: with fewer, who says that nothing is wrong has not looked.
LEAST_PART = 0.1


def expected_bad(counts: Counts) -> float:
    """How many bad requests the new version would have had with the share of the days before, bucket by bucket, where both sides had requests."""
    known = counts.known
    share = known.baseline_bad.sum(axis=-2) / np.maximum(known.baseline_requests.sum(axis=-2), 1)
    return float(np.where(counts.compared, known.requests * share, 0).sum())


def ratio_to_expected(counts: Counts, expected: float) -> float:
    """How many times as many bad requests there were as expected; 0 where none were."""
    return float(np.where(counts.compared, counts.known.bad, 0).sum()) / expected if expected > 0 else 0.0


def bad_share(counts: Counts) -> float:
    """Of all requests of the new version, the share of bad ones; 0 without a request."""
    known = counts.known
    requests = float(known.requests.sum())
    return float(known.bad.sum()) / requests if requests else 0.0


def hours_compared(counts: Counts) -> float:
    """Of the hours in which either side had requests, the share in which both had, and the new version not next to none."""
    known = counts.known
    # An earlier day's mean, of the buckets that are known now.
    days = np.maximum((~np.isnan(counts.baseline_requests)).sum(axis=-2), 1)
    usual = np.where(np.isnan(counts.requests), 0, known.baseline_requests.sum(axis=-2) / days)
    new, old = hourly(known.requests), hourly(known.baseline_requests.sum(axis=-2))
    both = (new > 0) & (old > 0) & (new >= LEAST_PART * hourly(usual))
    either = (new > 0) | (old > 0)
    return float(both.sum() / either.sum()) if either.any() else 1.0
