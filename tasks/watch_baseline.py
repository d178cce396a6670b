"""The days that a release is compared with: read once, kept, and from then on the same for every tick."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta

from prefect import get_run_logger

from core.environment import Environment
from core.environment_gates import Gates
from core.errors import NightshiftError
from core.placebo import days_needed, placebos
from core.watch_counts import BUCKETS
from core.watch_cut_outs import cut_outs
from core.watch_days import LAG_DAYS, YOUNG_LAG_DAYS, Interval, counterparts
from core.watch_queries import any_pods_pattern
from core.watch_record import CutOut, DayCounts, WatchBaseline, WatchStart
from tasks.object_store import ObjectMissingError
from tasks.prometheus import PrometheusClient
from tasks.recording import utc_now
from tasks.release_records import closed_releases
from tasks.watch_counts import read_side
from tasks.watch_records import WatchRecords
from tasks.watch_start import watch_of

# Of the four weeks, so many must be known for half their buckets.
_LEAST_WEEKS = 2
# Some hundred queries at most, once a watch; a tick that only asks for what closed has seconds.
PATIENCE_SECONDS = 120.0
_LARGEST = 1e300


def baseline_of(environment: Environment, gates: Gates, records: WatchRecords, start: WatchStart) -> WatchBaseline:
    """The watch's days to compare with. The first tick that can read them keeps them.

    Raise TemporaryError when Prometheus, or the bucket, is away; PermanentError for a query that it does not take.
    """
    try:
        return records.baseline()
    except ObjectMissingError:
        with PrometheusClient.open(gates, patience=PATIENCE_SECONDS) as client:
            records.keep(read_baseline(client, environment, gates, start))
        # Of several ticks that read them at once, one kept its own.
        return records.baseline()


def read_baseline(client: PrometheusClient, environment: Environment, gates: Gates, start: WatchStart) -> WatchBaseline:
    """Read the same weekday of four weeks; where Prometheus does not remember two of them, the four days before."""
    since = start.first - timedelta(days=max(LAG_DAYS) + 1)
    journals = [one.journal for one in closed_releases(environment, since)]
    holes = cut_outs(journals, watch_of(environment).incidents, watched=start.release_id)
    pods = any_pods_pattern(start.deployments)

    def read(lags: tuple[int, ...]) -> WatchBaseline:
        days = [read_side(client, gates, pods, counterparts(start.first, lag, environment.zone, holes)) for lag in lags]
        met = [one for one in holes if _meets(one, start, lags)]
        return WatchBaseline(
            environment=environment.name,
            release_id=start.release_id,
            read_at=utc_now(),
            lags=lags,
            cut_out=tuple(CutOut(begin=one.begin, end=one.end, why=one.why) for one in met),
            metrics={metric: tuple(day[metric] for day in days) for metric in days[0]},
        )

    found = read(LAG_DAYS)
    if _usable(found) < _LEAST_WEEKS:
        young = read(YOUNG_LAG_DAYS)
        if _usable(young):
            return young
        return found

    def read_day(lag: int) -> dict[str, DayCounts]:
        return read_side(client, gates, pods, counterparts(start.first, lag, environment.zone, holes))

    return found.model_copy(update={"placebos": _placebos(read_day)})


def _placebos(read_day: Callable[[int], dict[str, DayCounts]]) -> dict[str, tuple[int, ...]]:
    """The largest E of release-free days, where Prometheus remembers enough of them: of the farthest day first, so that one that does not costs a few queries."""
    days: dict[int, dict[str, DayCounts]] = {}
    try:
        for lag in days_needed():
            days[lag] = read_day(lag)
            if not any(any(one.is_known) for one in days[lag].values()) and len(days) == 1:
                return {}
    except NightshiftError as error:
        get_run_logger().warning("without the calibration by release-free days: %s", error)
        return {}
    return {
        metric: tuple(
            round(1000 * math.log10(min(one, _LARGEST)))
            for one in placebos({lag: day[metric].arrays for lag, day in days.items()})
        )
        for metric in next(iter(days.values()))
    }


def _usable(baseline: WatchBaseline) -> int:
    """How many days are known for half of their buckets, in the metric that is known least."""
    known = [sum(2 * sum(day.is_known) >= BUCKETS for day in days) for days in baseline.metrics.values()]
    return min(known, default=0)


def _meets(hole: Interval, start: WatchStart, lags: tuple[int, ...]) -> bool:
    days = [start.first - timedelta(days=lag) for lag in lags]
    return any(hole.begin < day + timedelta(days=1) and day < hole.end for day in days)
