"""Counters as Prometheus keeps them: how much one grew within a time, told from its samples themselves.

Not by `increase()`: that gives what is between the first and the last sample, stretched to the window (extrapolatedRate in Prometheus' promql/functions.go;
a series of one sample gives nothing). A client library makes the series of status="500" at the first error, with the value 1, and `increase()` of a series
that stays at 1 is 0: the first errors of a new version would never be seen. Here a series that begins while its Pod is being scraped begins from zero.

A value below the one before means that the counter began anew (Prometheus' own rule): all of it was counted since. What was counted between the last scrape
and the restart is lost, so a reset is told. Times are seconds since the epoch, UTC.
"""

import math
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]


@dataclass(frozen=True)
class Sample:
    """One value of one series, for the time that was asked for."""

    labels: Mapping[str, str]
    at: float
    value: float


@dataclass(frozen=True)
class Series:
    """One series: its labels, and its samples (time, value), oldest first."""

    labels: Mapping[str, str]
    points: Sequence[Point]

    def named(self) -> str:
        """How it is called in a sentence: http_requests_total{pod="a",status="500"}."""
        inner = ",".join(f'{name}="{value}"' for name, value in sorted(self.labels.items()) if name != "__name__")
        return f"{self.labels.get('__name__', '')}{{{inner}}}"


class UnusableSeriesError(ValueError):
    """A series that is no counter: NaN, infinite, negative, or out of order. The message names it and the value."""


@dataclass(frozen=True)
class Growth:
    """How much a counter grew. `resets`: how often it began anew. `gap`: it was not scraped when the time began, so its growth before its first sample is unknown."""

    amount: float
    resets: int = 0
    gap: bool = False


def growth(series: Series, *, start: float, scrapes: Sequence[float], fresh: float) -> Growth:
    """Given a series, and the times when its Pod was scraped (sorted, from much earlier on than the samples), return its growth since `start`.

    There at `start`, at most `fresh` seconds before: from its last sample then. Begun later, while its Pod was scraped without it or because the Pod is new: from zero.
    Raise UnusableSeriesError when it is no counter.
    """
    _check(series)
    before = [value for time, value in series.points if start - fresh <= time <= start]
    inside = [(time, value) for time, value in series.points if time > start]
    if not inside:
        return Growth(0.0)
    first_time, first = inside[0]
    earlier = scrapes[: bisect_left(scrapes, first_time)]
    gap = not before and bool(earlier) and first_time - earlier[-1] > fresh
    last = before[-1] if before else first if gap else 0.0
    amount, resets = 0.0, 0
    for _, value in inside:
        began_anew = value < last
        resets += began_anew
        amount += value if began_anew else value - last
        last = value
    return Growth(amount, resets, gap)


def scrape_times(targets: Iterable[Series], pod_label: str) -> dict[str, list[float]]:
    """Given the series of `up`, return for each Pod the times at which it was scraped (up is 1), sorted."""
    times: dict[str, set[float]] = {}
    for target in targets:
        seen = times.setdefault(target.labels.get(pod_label, ""), set())
        seen.update(time for time, value in target.points if value == 1)
    return {pod: sorted(seen) for pod, seen in times.items()}


def _check(series: Series) -> None:
    last = -math.inf
    for time, value in series.points:
        if not math.isfinite(value) or value < 0:
            raise UnusableSeriesError(f"{series.named()} has the value {value}, which no counter has")
        if not time > last:
            raise UnusableSeriesError(f"the samples of {series.named()} are out of order")
        last = time
