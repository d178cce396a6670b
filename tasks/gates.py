"""The metric gate of a release: what is measured, and what it says. The decisions are core.metric_gate's; how long to hold is the flow's, by its `hold`.

`check_metrics` never raises because Prometheus is away or a query is wrong: that is "inconclusive", and holds. Each call measures anew.
"""

from collections.abc import Callable
from datetime import UTC, datetime

from core.environment_gates import Gates
from core.errors import NightshiftError
from core.gate_readings import (
    GateReading,
    PodSide,
    SideSeries,
    buckets_selector,
    filled,
    judged,
    read_errors,
    read_slow,
    scrapes_seconds,
    unmeasured,
    window_before,
)
from core.metric_gate import Verdict
from tasks.prometheus import PrometheusClient

# What is not of now by Prometheus' clock too is of before a shift, or not there yet.
MOST_APART_SECONDS = 15.0
Clock = Callable[[], datetime]
Open = Callable[[Gates], PrometheusClient]


def _now() -> datetime:
    return datetime.now(UTC)


def check_metrics(
    gates: Gates,
    *,
    new: PodSide | None,
    old: PodSide | None,
    since: datetime | None = None,
    clock: Clock = _now,
    connect: Open = PrometheusClient.open,
) -> Verdict:
    """Given the Pods of the new and of the old version, return the verdict of the metrics of the window until now, but of nothing before `since`.

    `new` None: no Pod of it is ready, which holds. `old` None: it takes no traffic any more, so it is not compared with. `since`: when the traffic was
    shifted to what it is. Not configured: there is no Prometheus, or metrics are switched off; the finding says so, and is no pass.
    """
    if not gates.metrics:
        return unmeasured(clock(), "not configured", "metrics were not looked at: release.gates.metrics is false")
    if gates.prometheus_url is None:
        return unmeasured(clock(), "not configured", "metrics were not looked at: no release.gates.prometheus_url")
    if new is None:
        return unmeasured(clock(), "inconclusive", "metrics are not known: no Pod of the new version is ready")
    try:
        with connect(gates) as client:
            reading = measure(client, gates, new=new, old=old, at=clock(), since=since)
            apart = client.clock_apart
    except NightshiftError as error:
        return unmeasured(clock(), "inconclusive", f"metrics are not known: {error}")
    if apart is None or abs(apart) > MOST_APART_SECONDS:
        told = "is not told" if apart is None else f"goes {abs(apart):.0f} s {'before' if apart > 0 else 'after'} ours"
        return unmeasured(clock(), "inconclusive", f"metrics are not of now: the clock of Prometheus {told}")
    return judged(gates, reading)


def measure(
    client: PrometheusClient,
    gates: Gates,
    *,
    new: PodSide,
    old: PodSide | None,
    at: datetime,
    since: datetime | None = None,
) -> GateReading:
    """Given the Pods of both versions, return what each counted within the window before a time, but not before `since`. Raise as PrometheusClient does."""
    window = window_before(gates, at.timestamp(), None if since is None else since.timestamp())
    new_series = _series(client, gates, new, window[1])
    old_series = None if old is None else _series(client, gates, old, window[1])
    latency = gates.durations is not None
    return GateReading(
        at=at,
        window_seconds=round(window[1] - window[0]),
        new_errors=read_errors(gates, new, new_series, window),
        old_errors=read_errors(gates, old, old_series, window) if old and old_series else None,
        new_slow=read_slow(gates, new, new_series, window) if latency else None,
        old_slow=read_slow(gates, old, old_series, window) if latency and old and old_series else None,
    )


def _series(client: PrometheusClient, gates: Gates, side: PodSide, at: float) -> SideSeries:
    seconds = gates.window_seconds + gates.fresh_seconds
    buckets = targets = None
    if gates.durations is not None:
        selector = buckets_selector(filled(gates.durations, side.pattern), gates.slow_seconds)
        buckets = client.samples(selector, seconds=seconds, at=at)
    if gates.targets is not None:
        targets = client.samples(filled(gates.targets, side.pattern), seconds=scrapes_seconds(gates), at=at)
    requests = client.samples(filled(gates.requests, side.pattern), seconds=seconds, at=at)
    return SideSeries(requests, buckets, targets)
