"""What is kept of a watch in the bucket, by (release, bucket), so that a tick that is killed, late, doubled or out of order changes nothing.

    PREFIX/watches/RELEASE/watch.json             when it began, of what; never changed
    PREFIX/watches/RELEASE/outside-before.json    the public address as it was before the release, where one is asked
    PREFIX/watches/RELEASE/baseline.json          the days to compare with, read once
    PREFIX/watches/RELEASE/known-logs.json        the errors in the logs before, learned once
    PREFIX/watches/RELEASE/tick-NNN-KKK.json      all that was seen until bucket NNN was over; KKK of the buckets are known. The last one counts
    PREFIX/watches/RELEASE/WHAT.json              that something was done once: told, asked, stopped
    PREFIX/watches/RELEASE/ended.json             how it ended, written last

Counts are in thousandths of a request, since signed records hold no floats and `increase()` makes fractions. None: nobody knows.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AwareDatetime, Field

from core.evidence import Finding
from core.log_signatures import LogBaseline
from core.manifest import Record, Sha256
from core.watch_counts import BUCKETS, Array, Counts
from core.watch_probes import ProbesLook
from core.watch_verdict import Verdict

Thousandths = Annotated[int, Field(ge=0)] | None
HowItEnded = Literal["the day is over", "superseded", "rolled back"]


class DayCounts(Record):
    """Requests of 288 buckets and the bad ones among them, in thousandths."""

    requests: Annotated[tuple[Thousandths, ...], Field(min_length=BUCKETS, max_length=BUCKETS)]
    bad: Annotated[tuple[Thousandths, ...], Field(min_length=BUCKETS, max_length=BUCKETS)]

    @classmethod
    def of(cls, requests: Array, bad: Array) -> "DayCounts":
        """Given counts by bucket, NaN for what is not known, return the record. A bucket of which only one is known is not known."""
        known = np.isfinite(requests) & np.isfinite(bad) & (requests >= 0)
        return cls(requests=_thousandths(requests, known), bad=_thousandths(np.clip(bad, 0, None), known))

    @classmethod
    def unknown(cls) -> "DayCounts":
        """Nothing is known."""
        return cls(requests=(None,) * BUCKETS, bad=(None,) * BUCKETS)

    @property
    def arrays(self) -> tuple[Array, Array]:
        """As counts by bucket."""
        return _array(self.requests), _array(self.bad)

    @property
    def is_known(self) -> tuple[bool, ...]:
        """Bucket by bucket."""
        return tuple(one is not None for one in self.requests)

    def filled_by(self, other: "DayCounts") -> "DayCounts":
        """What is known here stays; what is not is taken from there."""
        keep = self.is_known
        return DayCounts(
            requests=tuple(a if known else b for known, a, b in zip(keep, self.requests, other.requests, strict=True)),
            bad=tuple(a if known else b for known, a, b in zip(keep, self.bad, other.bad, strict=True)),
        )


class WatchStart(Record):
    """What is watched, since when. `deployments`: names of the api's Deployments, of any version and side; `old_side`: blue-green's old one, else "".

    `counts`: requests were to be counted then."""

    format: Literal["nightshift-watch/1"] = "nightshift-watch/1"
    environment: str
    release_id: str
    plan_sha256: Sha256
    image: str
    commit: str
    namespace: str
    deployments: tuple[str, ...]
    old_side: str
    released_at: AwareDatetime
    first: AwareDatetime
    counts: bool = True


class OutsideBefore(Record):
    """The public address as it was before a release changed anything."""

    format: Literal["nightshift-watch-outside-before/1"] = "nightshift-watch-outside-before/1"
    environment: str
    release_id: str
    at: AwareDatetime
    look: ProbesLook

    @property
    def failing(self) -> dict[str, str]:
        """The pages that failed then, and why."""
        return {one.path: one.why for one in self.look.probes if not one.ok}


class CutOut(Record):
    """A time that was cut out of the days to compare with, and why."""

    begin: AwareDatetime
    end: AwareDatetime
    why: str


class WatchBaseline(Record):
    """The days to compare with: metric → day by day, in the order of `lags` (days before). `placebos`: log10 of E, in thousandths."""

    format: Literal["nightshift-watch-baseline/1"] = "nightshift-watch-baseline/1"
    environment: str
    release_id: str
    read_at: AwareDatetime
    lags: tuple[int, ...]
    cut_out: tuple[CutOut, ...]
    metrics: dict[str, tuple[DayCounts, ...]]
    placebos: dict[str, tuple[int, ...]] = Field(default_factory=dict)

    @property
    def largest_of_days(self) -> dict[str, tuple[float, ...]]:
        """The largest E of each release-free day that was put in the release's place (core.placebo), by metric."""
        return {metric: tuple(10 ** (one / 1000) for one in found) for metric, found in self.placebos.items()}


class WatchLogs(Record):
    """The errors in the logs before the release, learned once."""

    format: Literal["nightshift-watch-known-logs/1"] = "nightshift-watch-known-logs/1"
    environment: str
    release_id: str
    known: LogBaseline


class WatchTick(Record):
    """All that was seen until now. `sources`: of each other source what it keeps; `unread`: source → why it could not be read this time."""

    format: Literal["nightshift-watch-tick/1"] = "nightshift-watch-tick/1"
    environment: str
    release_id: str
    closed: int = Field(ge=0, le=BUCKETS)
    at: AwareDatetime
    flow_run_id: str
    metrics: dict[str, DayCounts] = Field(default_factory=dict)
    sources: dict[str, dict[str, Any]] = Field(default_factory=dict)
    unread: dict[str, str] = Field(default_factory=dict)
    verdict: Verdict | None = None
    reasons: tuple[str, ...] = ()
    findings: tuple[Finding, ...] = ()

    @property
    def known(self) -> int:
        """Of how many closed buckets every metric is known."""
        if not self.metrics:
            return 0
        days = [one.is_known for one in self.metrics.values()]
        return sum(all(day[bucket] for day in days) for bucket in range(self.closed))


class WatchMark(Record):
    """That something was done once. `what`: the name of its object."""

    format: Literal["nightshift-watch-mark/1"] = "nightshift-watch-mark/1"
    environment: str
    release_id: str
    what: str
    at: AwareDatetime
    by: str
    why: str


class WatchEnd(Record):
    """How a watch ended. `report`: the key of its report; `doubted`: the counts are not the whole (core.watch_doubts)."""

    format: Literal["nightshift-watch-end/1"] = "nightshift-watch-end/1"
    environment: str
    release_id: str
    how: HowItEnded
    verdict: Verdict
    reasons: tuple[str, ...]
    closed: int = Field(ge=0, le=BUCKETS)
    at: AwareDatetime
    report: str
    doubted: bool = False


def counts_of(baseline: WatchBaseline | None, seen: Mapping[str, DayCounts], closed: int) -> dict[str, Counts]:
    """Given the days to compare with and what was seen, return each metric's counts until a bucket. Of what is not over, the earlier days are no evidence either."""
    over = np.arange(BUCKETS) < closed
    found = {}
    for metric, day in seen.items():
        days = () if baseline is None else baseline.metrics.get(metric, ())
        requests, bad = day.arrays
        old = [one.arrays for one in days]
        found[metric] = Counts(
            np.where(over, requests, np.nan),
            np.where(over, bad, np.nan),
            np.array([np.where(over, one[0], np.nan) for one in old]).reshape(len(old), BUCKETS),
            np.array([np.where(over, one[1], np.nan) for one in old]).reshape(len(old), BUCKETS),
        )
    return found


def _thousandths(values: Array, known: Any) -> tuple[int | None, ...]:
    return tuple(round(float(one) * 1000) if is_known else None for one, is_known in zip(values, known, strict=True))


def _array(values: tuple[int | None, ...]) -> Array:
    return np.array([math.nan if one is None else one / 1000 for one in values])
