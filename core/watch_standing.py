"""How a watch that goes on stands, by what is kept of it in the bucket alone: for `nightshift watches` and for the metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from core.environment_watch import Watch
from core.watch_counts import BUCKET_MINUTES, BUCKETS
from core.watch_days import BUCKET, closed_buckets
from core.watch_decision import DEGRADED, OUTSIDE, STOPPED, SUSPECT
from core.watch_record import WatchMark, WatchStart, WatchTick
from core.watch_scraped import SCRAPED, ScrapedSeen

# As tests/test_own_metrics.py holds it together with core.own_metrics.
State = Literal["degraded", "suspect", "blind", "stands still"]
# A tick may be late; three that did not come are a watch that stands still (tasks.watch_sweep).
STILL = 3 * BUCKET
# After the day's last look only the hourly sweep looks, so long as it waits for Prometheus.
_SWEPT = timedelta(hours=2)


@dataclass(frozen=True)
class WatchStanding:
    """A watch that goes on.

    Args:
        states: what is not well, gravest first; none: it goes on.
        looked: when something new was seen last; None: never.
        blind_since: since when its requests, or a part of them, are not seen; None: they are.
        ends: when its day is over. stopped: why it ends before; "": it does not.
    """

    start: WatchStart
    tick: WatchTick | None
    marks: tuple[WatchMark, ...]
    states: tuple[State, ...]
    looked: datetime | None
    blind_since: datetime | None
    ends: datetime
    stopped: str

    @property
    def closed(self) -> int:
        """How many buckets were over at the last look."""
        return self.tick.closed if self.tick is not None else 0


def standing_of(  # noqa: PLR0917 - what is kept of a watch
    start: WatchStart,
    tick: WatchTick | None,
    marks: Sequence[WatchMark],
    settings: Watch,
    scraped_by: timedelta,
    now: datetime,
) -> WatchStanding:
    """Given what is kept of a watch, the table [watch], how long a bucket's last scrape takes to come in, and the time (aware), return how it stands."""
    buckets = settings.blind_minutes // BUCKET_MINUTES
    since = None if tick is None else _blind_since(start, tick, buckets, settings.coverage)
    told = {one.what for one in marks}
    states: list[State] = []
    if DEGRADED in told:
        states.append("degraded")
    if SUSPECT in told or any(one.startswith(OUTSIDE) for one in told):
        states.append("suspect")
    if since is not None:
        states.append("blind")
    if _stands_still(start, tick, settings, scraped_by, now):
        states.append("stands still")
    return WatchStanding(
        start=start,
        tick=tick,
        marks=tuple(marks),
        states=tuple(states),
        looked=None if tick is None else tick.at,
        blind_since=None if since is None else start.first + BUCKET * since,
        ends=start.first + BUCKET * BUCKETS,
        stopped=next((one.why for one in marks if one.what == STOPPED), ""),
    )


def _blind_since(start: WatchStart, tick: WatchTick, buckets: int, coverage: float) -> int | None:
    """As core.watch_notices tells it, of what is kept."""
    found = []
    for day in tick.metrics.values():
        known = [number for number in range(tick.closed) if day.is_known[number]]
        found.append(known[-1] + 1 if known else 0)
    if not tick.metrics and start.counts:
        found.append(0)
    since = [one for one in found if tick.closed - one >= buckets]
    if SCRAPED in tick.sources:
        part = ScrapedSeen.model_validate(tick.sources[SCRAPED]).unseen_since(tick.closed, buckets, coverage)
        since += [] if part is None else [part]
    return min(since, default=None)


def _stands_still(
    start: WatchStart, tick: WatchTick | None, settings: Watch, scraped_by: timedelta, now: datetime
) -> bool:
    closed = tick.closed if tick is not None else 0
    if closed >= BUCKETS:
        return now > start.first + BUCKET * BUCKETS + timedelta(hours=settings.backfill_hours) + _SWEPT
    return closed_buckets(start.first, now, scraped_by) - closed >= STILL // BUCKET
