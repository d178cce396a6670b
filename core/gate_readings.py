"""From the series of one side's Pods to its readings: failed and slow requests, and everything that makes them prove nothing."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from pydantic import AwareDatetime, Field

from core.counters import Growth, Series, UnusableSeriesError, growth, scrape_times
from core.environment_gates import PODS, Gates
from core.manifest import Record
from core.metric_gate import Finding, GateState, Limits, Reading, Verdict, judge, verdict_of

# How far back beyond the window and the longest hold it is asked when a Pod was scraped: a gap in the scrapes is told from a new Pod.
EARLIER_SECONDS = 3600
# Of names and series in a sentence, so many.
_SHOWN = 3


class PodSide(Record):
    """The Pods of one version. `names`: those that are ready now, which must be scraped. `replica_sets`: so are called all its Pods, also those that are gone."""

    names: Annotated[tuple[str, ...], Field(min_length=1)]
    replica_sets: tuple[str, ...] = ()

    @property
    def pattern(self) -> str:
        """Their names as a regular expression (Prometheus' RE2 anchors it at both ends)."""
        made = [f"{quoted(name)}-[a-z0-9]+" for name in self.replica_sets]
        return "|".join([*made, *(quoted(name) for name in self.names)])


@dataclass(frozen=True)
class SideSeries:
    """What Prometheus has of one side: counters and buckets of the window, and scrapes from much earlier on. None: not asked."""

    requests: tuple[Series, ...]
    buckets: tuple[Series, ...] | None
    targets: tuple[Series, ...] | None


class GateReading(Record):
    """What was measured: small enough to be kept in a journal."""

    at: AwareDatetime
    window_seconds: int
    new_errors: Reading
    old_errors: Reading | None
    new_slow: Reading | None
    old_slow: Reading | None


def scrapes_seconds(gates: Gates) -> int:
    """How far back scrapes are asked for."""
    return gates.window_seconds + gates.hold_minutes * 60 + EARLIER_SECONDS


def filled(selector: str, pods: str) -> str:
    """Given a selector of the environment's file and a pattern of Pods, return the selector as PromQL: a backslash within quotes is written twice there."""
    return selector.replace(PODS, pods.replace("\\", "\\\\"))


def buckets_selector(selector: str, seconds: float) -> str:
    """Given a histogram's filled selector and a bound in seconds, return it for the bucket up to there and for the one of all requests.

    Clients write a whole bound as 1 or as 1.0.
    """
    spellings = sorted({f"{seconds:g}", repr(float(seconds))})
    chosen = "|".join([*(quoted(one) for one in spellings), r"\+Inf"]).replace("\\", "\\\\")
    return f'{selector.rstrip().removesuffix("}").rstrip().removesuffix(",")},le=~"{chosen}"}}'


def window_before(gates: Gates, at: float, since: float | None) -> tuple[float, float]:
    """The time that is looked at: the window before `at`, but nothing before `since`, when the traffic was as it is now."""
    start = at - gates.window_seconds
    return (start if since is None else min(max(start, since), at), at)


def read_errors(gates: Gates, side: PodSide, series: SideSeries, window: tuple[float, float]) -> Reading:
    """Given what Prometheus has of a side at the end of a window, return its failed and all requests within it."""
    is_error = re.compile(gates.error_values).fullmatch

    def weigh(one: Series) -> tuple[float, float]:
        if gates.error_label not in one.labels:
            raise UnusableSeriesError(f"{one.named()} has no label {gates.error_label} that tells whether it failed")
        return (1.0 if is_error(one.labels[gates.error_label]) else 0.0), 1.0

    return _read(gates, side, (series.requests, series.targets), window, weigh)


def read_slow(gates: Gates, side: PodSide, series: SideSeries, window: tuple[float, float]) -> Reading:
    """Given what Prometheus has of a side at the end of a window, return its requests that took longer than slow_seconds, and all, within it."""
    buckets = series.buckets or ()
    pairs: dict[tuple[tuple[str, str], ...], set[bool]] = {}
    for one in buckets:
        key = tuple(sorted((name, value) for name, value in one.labels.items() if name != "le"))
        pairs.setdefault(key, set()).add(one.labels.get("le") == "+Inf")
    if any(found != {True, False} for found in pairs.values()):
        return Reading(
            doubt=f"the histogram has no bucket of {gates.slow_seconds:g} seconds beside the one of all requests"
        )

    # Slow is what lies in the bucket of all and not in the one up to the bound.
    def weigh(one: Series) -> tuple[float, float]:
        return (1.0, 1.0) if one.labels.get("le") == "+Inf" else (-1.0, 0.0)

    return _read(gates, side, (buckets, series.targets), window, weigh)


def judged(gates: Gates, reading: GateReading) -> Verdict:
    """Given what was measured, return the verdict of the metrics."""
    errors = Limits(
        share=gates.error_ratio_max,
        factor=gates.error_ratio_factor,
        ignored=gates.ratio_ignored,
        minimum=gates.minimum_requests,
    )
    slow = errors.model_copy(update={"share": gates.slow_ratio_max, "factor": gates.slow_ratio_factor})
    findings = [judge("errors", "failed", errors, reading.new_errors, reading.old_errors)]
    if reading.new_slow is None:
        findings.append(
            Finding(gate="latency", state="not configured", found="latency was not looked at: gates.durations is empty")
        )
    else:
        slower = f"took longer than {gates.slow_seconds:g} s"
        findings.append(judge("latency", slower, slow, reading.new_slow, reading.old_slow))
    return verdict_of(reading.at, findings)


def unmeasured(at: datetime, state: GateState, found: str) -> Verdict:
    """The verdict when metrics could not be measured, or are not to be."""
    return verdict_of(at, [Finding(gate="metrics", state=state, found=found)])


Weigh = Callable[[Series], tuple[float, float]]


def _read(
    gates: Gates,
    side: PodSide,
    known: tuple[Sequence[Series], Sequence[Series] | None],
    window: tuple[float, float],
    weigh: Weigh,
) -> Reading:
    """The weighed sum of what the series grew by, as whole requests; with the first doubt that there is."""
    series, targets = known
    if not series:
        return Reading(doubt=f"Prometheus has no series of {_listed(side.names)} (empty is not zero)")
    scrapes = _scrapes(gates, series, targets)
    (start, at), bad, total = window, 0.0, 0.0
    restarted: set[str] = set()
    gaps: set[str] = set()
    try:
        for one in series:
            pod = _pod_of(one, gates.pod_label)
            grown: Growth = growth(one, start=start, scrapes=scrapes.get(pod, ()), fresh=gates.fresh_seconds)
            of_bad, of_total = weigh(one)
            bad += of_bad * grown.amount
            total += of_total * grown.amount
            restarted |= {pod} if grown.resets else set()
            gaps |= {pod} if grown.gap else set()
    except UnusableSeriesError as error:
        return Reading(doubt=str(error))
    whole_bad, whole_total = round(bad), round(total)
    if not 0 <= whole_bad <= whole_total:
        return Reading(doubt=f"the counters contradict each other: {whole_bad} bad of {whole_total} requests")
    doubt = _stale(gates, side, scrapes, at) or (f"{_listed(sorted(gaps))}: not scraped for a time" if gaps else "")
    return Reading(bad=whole_bad, total=whole_total, doubt=doubt, restarted=len(restarted))


def _scrapes(gates: Gates, series: Sequence[Series], targets: Sequence[Series] | None) -> Mapping[str, Sequence[float]]:
    """When each Pod was scraped: by `up`, or where that is not asked by the samples of its own series."""
    if targets is not None:
        return scrape_times(targets, gates.pod_label)
    times: dict[str, set[float]] = {}
    for one in series:
        times.setdefault(one.labels.get(gates.pod_label, ""), set()).update(time for time, _ in one.points)
    return {pod: sorted(seen) for pod, seen in times.items()}


def _stale(gates: Gates, side: PodSide, scrapes: Mapping[str, Sequence[float]], at: float) -> str:
    """Which ready Pods have no sample of now; "" when all have. Without `up` a Pod without any series cannot be told from one without requests."""
    unseen = [pod for pod in side.names if not scrapes.get(pod)] if gates.targets else []
    if unseen:
        return f"Prometheus does not scrape {_listed(unseen)}"
    newest = {pod: scrapes[pod][-1] for pod in side.names if scrapes.get(pod)}
    old = sorted(pod for pod, time in newest.items() if at - time > gates.fresh_seconds)
    if not old:
        return "" if newest else f"no samples of {_listed(side.names)}"
    age = max(at - newest[pod] for pod in old)
    return f"the newest sample of {_listed(old)} is {age:.0f} s old, more than {gates.fresh_seconds} s"


def _pod_of(one: Series, label: str) -> str:
    if label not in one.labels:
        raise UnusableSeriesError(f"{one.named()} has no label {label} that names the Pod")
    return one.labels[label]


def quoted(text: str) -> str:
    """As a regular expression of RE2: Python escapes more than RE2 takes."""
    return re.sub(r"([.+*?()|\[\]{}^$\\])", r"\\\1", text)


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
