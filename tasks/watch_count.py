"""The requests of a watch's closed buckets, asked of Prometheus as they close, and afterwards where it was away."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.errors import NightshiftError
from core.watch_counts import BUCKET_MINUTES, BUCKETS
from core.watch_days import bucket_starts
from core.watch_queries import made_by_pattern, metric_queries
from core.watch_record import DayCounts, WatchBaseline
from core.watch_scraped import SCRAPED, ScrapedSeen, scraped_after, scraped_query
from tasks.prometheus import PrometheusClient
from tasks.release_run import release_of
from tasks.watch_baseline import baseline_of
from tasks.watch_counts import read_side
from tasks.watch_records import BASELINE
from tasks.watch_stand import Stand

# A tick has two seconds; what a slow Prometheus cannot tell by then, it tells the next one.
PATIENCE_SECONDS = 10.0
MOST_AHEAD_SECONDS = 600.0
NOT_COUNTED = "nothing is counted: release.gates.prometheus_url is empty, or metrics is false"


@dataclass(frozen=True)
class Counted:
    """How many buckets are closed, what is known of them, the days to compare with (None: not read yet), why something is not known ("": nothing is wrong), and how
    many Pods are scraped (None: never asked), with why this could not be asked."""

    closed: int
    metrics: dict[str, DayCounts]
    baseline: WatchBaseline | None
    unread: str = ""
    scraped: ScrapedSeen | None = None
    scraped_unread: str = ""


def count(stand: Stand, replica_sets: tuple[str, ...], now: datetime, *, ready: int = 0) -> Counted:
    """Ask Prometheus for what is not known yet of the closed buckets, and how many of the ready Pods (0: not known) it scrapes.

    Never raises for what Prometheus does or does not say: that is `unread`.

    What was known stays as it was first told. Whether a bucket is over is told by Prometheus' clock, where its answers carry one.
    """
    gates, before = release_of(stand.environment).gates, stand.before
    at_least = before.closed if before is not None else 0
    closed = max(at_least, stand.closed_by(now))
    scraped = None
    if before is not None and SCRAPED in before.sources:
        scraped = ScrapedSeen.model_validate(before.sources[SCRAPED])
    if gates.prometheus_url is None or not gates.metrics:
        # What was counted before somebody switched it off stays known, and what comes then is not.
        baseline = stand.records.baseline() if BASELINE in stand.names else None
        return Counted(closed, dict(before.metrics) if before is not None else {}, baseline, NOT_COUNTED, scraped)
    kept = before.metrics if before is not None else {}
    seen = {one.metric: kept.get(one.metric, DayCounts.unknown()) for one in metric_queries(gates, "")}
    baseline = stand.records.baseline() if BASELINE in stand.names else None
    try:
        baseline = baseline or baseline_of(stand.environment, gates, stand.records, stand.start)
        if not replica_sets:
            return Counted(closed, seen, baseline, "which Pods are the new version's is not known", scraped)
        with PrometheusClient.open(gates, patience=PATIENCE_SECONDS) as client:
            over, new = _read_closed(client, stand, seen, replica_sets, now)
            scraped, scraped_unread = _read_scraped(client, stand, scraped, replica_sets, now, ready)
    except NightshiftError as error:
        return Counted(closed, seen, baseline, str(error), scraped)
    return Counted(max(at_least, over), new, baseline, scraped=scraped, scraped_unread=scraped_unread)


def _read_scraped(  # noqa: PLR0917 - what a look knows
    client: PrometheusClient,
    stand: Stand,
    before: ScrapedSeen | None,
    replica_sets: tuple[str, ...],
    now: datetime,
    ready: int,
) -> tuple[ScrapedSeen | None, str]:
    """How many of the api's ready Pods are scraped now: of others nobody counts requests. Why Prometheus does not tell of this is returned, and harms no count."""
    served = [one for one in replica_sets if one.rpartition("-")[0] in stand.start.deployments]
    query = scraped_query(release_of(stand.environment).gates, made_by_pattern(served))
    if not ready or not served or query is None:
        return before, ""
    at = (now + _apart(client)).timestamp()
    try:
        found = client.query_range(query, start=at, end=at, step=BUCKET_MINUTES * 60)
    except NightshiftError as error:
        return before, str(error)
    told = next((round(value) for one in found for _, value in one.points if math.isfinite(value)), None)
    return scraped_after(before, bucket=stand.closed_by(now) - 1, ready=ready, scraped=told), ""


def _read_closed(
    client: PrometheusClient,
    stand: Stand,
    seen: dict[str, DayCounts],
    replica_sets: tuple[str, ...],
    now: datetime,
) -> tuple[int, dict[str, DayCounts]]:
    """How many buckets are over by the clock of Prometheus, and what is known of them. That clock is told with its answers: where ours was wrong, it is asked again."""
    over, found = stand.closed_by(now + _apart(client)), seen
    for _ in range(2):
        begin = _first_unknown(seen, over)
        if begin < over:
            starts = [
                one if begin <= number < over else None for number, one in enumerate(bucket_starts(stand.start.first))
            ]
            gates = release_of(stand.environment).gates
            new = read_side(client, gates, made_by_pattern(replica_sets), starts)
            found = {metric: day.filled_by(new[metric]) for metric, day in seen.items()}
        told = stand.closed_by(now + _apart(client))
        if told == over:
            break
        over, found = told, seen
    return over, found


def _apart(client: PrometheusClient) -> timedelta:
    # One that is far ahead is wrong, or lies: nothing is over because of it. Where it is behind, what it has not seen yet is not over.
    return timedelta(seconds=min(client.clock_apart or 0, MOST_AHEAD_SECONDS))


def _first_unknown(seen: dict[str, DayCounts], closed: int) -> int:
    """One query from there on, however many gaps there are: their number does not grow with an outage."""
    return min(
        (next((number for number in range(closed) if not day.is_known[number]), closed) for day in seen.values()),
        default=BUCKETS,
    )
