"""The counts of a watch, read from Prometheus: of the new version, and of the same five minutes of earlier weeks."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np

from core.environment_gates import Gates
from core.watch_counts import BUCKET_MINUTES, BUCKETS, Array
from core.watch_days import BUCKET, runs_of
from core.watch_queries import MetricQueries, metric_queries, observer_query
from core.watch_record import DayCounts
from tasks.prometheus import PrometheusClient

_STEP = BUCKET_MINUTES * 60


def read_side(
    client: PrometheusClient, gates: Gates, pods: str, starts: Sequence[datetime | None]
) -> dict[str, DayCounts]:
    """Given a pattern of Pods' names and the start of each of 288 buckets (None: not asked), return each metric's counts.

    A day of earlier weeks is asked for as a whole, a bucket of now once it is closed. Raise TemporaryError when Prometheus is away or answers in part,
    PermanentError for a query that it does not take.
    """
    return {
        name: DayCounts.of(*found) for name, found in _read_side(client, metric_queries(gates, pods), starts).items()
    }


def _read_side(
    client: PrometheusClient, queries: Sequence[MetricQueries], starts: Sequence[datetime | None]
) -> dict[str, tuple[Array, Array]]:
    observed = ~np.isnan(_read_buckets(client, observer_query(), starts))
    found = {}
    for one in queries:
        requests = np.where(observed, _read_buckets(client, one.requests, starts), np.nan)
        told = _read_buckets(client, one.bad, starts)
        # No series of a failed request yet is none that failed; no bucket up to the bound is a histogram without it.
        bad = requests - told if one.good else np.where(np.isnan(told), 0, told)
        known = np.isfinite(requests) & np.isfinite(bad) & (requests >= 0)
        # `increase` stretches what it saw to the window, each series for itself.
        found[one.metric] = (
            np.where(known, requests, np.nan),
            np.where(known, np.clip(bad, 0, np.where(known, requests, 0)), np.nan),
        )
    return found


def _read_buckets(client: PrometheusClient, query: str, starts: Sequence[datetime | None]) -> Array:
    """The query's value at the end of each bucket; NaN where it has none."""
    found = np.full(BUCKETS, np.nan)
    for number, start, count in runs_of(starts):
        first = (start + BUCKET).timestamp()
        last = (start + BUCKET * count).timestamp()
        for series in client.query_range(query, start=first, end=last, step=_STEP):
            for at, value in series.points:
                found[number + round((at - first) / _STEP)] = value
    return found


def scraped_by(seconds: float) -> timedelta:
    """Given the interval between scrapes, return how long after its end a bucket's last scrape has come in: two of them, and ten seconds for the scrape itself."""
    return timedelta(seconds=2 * seconds + 10)
