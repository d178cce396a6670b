"""When a watch looks: the buckets of the day after a release, and the same five minutes of earlier weeks.

A bucket's counterpart is at the same time of the same weekday, by the clock on the wall of the environment's time zone, since people's habits follow that
one: 7, 14, 21 and 28 days before (DESIGN §6). In a night of daylight saving some times are there twice, of which the first counts, and some not at all: those
buckets have no counterpart.

What is cut out (an incident, another release) has no counterpart either.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from core.watch_counts import BUCKET_MINUTES, BUCKETS

BUCKET = timedelta(minutes=BUCKET_MINUTES)
LAG_DAYS = (7, 14, 21, 28)
# Where Prometheus remembers no weeks: a Monday is no Sunday, so these advise only.
YOUNG_LAG_DAYS = (1, 2, 3, 4)


@dataclass(frozen=True)
class Interval:
    """A time that is cut out of baseline days, and why."""

    begin: datetime
    end: datetime
    why: str

    def meets(self, start: datetime) -> bool:
        """Whether a bucket that starts then lies in it, even in part."""
        return self.begin < start + BUCKET and start < self.end


def first_bucket(released: datetime) -> datetime:
    """The first whole bucket after a release: buckets begin at whole five minutes, so that all watches of a day ask for the same times."""
    seconds = BUCKET.total_seconds()
    whole = -(-released.timestamp() // seconds) * seconds
    return datetime.fromtimestamp(whole, UTC)


def bucket_starts(first: datetime) -> tuple[datetime, ...]:
    """The 288 buckets of a watch."""
    return tuple(first + BUCKET * number for number in range(BUCKETS))


def closed_buckets(first: datetime, now: datetime, lag: timedelta) -> int:
    """How many buckets are over, and so long ago that their last scrape has come in (`lag`)."""
    return max(0, min(BUCKETS, (now - lag - first) // BUCKET))


def counterparts(
    first: datetime, days: int, zone: ZoneInfo, cut_out: Iterable[Interval] = ()
) -> tuple[datetime | None, ...]:
    """Given a watch's first bucket, return the start of each bucket's counterpart so many days before; None where there is none."""
    holes = tuple(cut_out)
    found = (_days_before(start, days, zone) for start in bucket_starts(first))
    return tuple(None if one is None or any(hole.meets(one) for hole in holes) else one for one in found)


def runs_of(starts: Sequence[datetime | None]) -> tuple[tuple[int, datetime, int], ...]:
    """Given starts of buckets, return what one range query each can ask for: (number of the first bucket, its start, how many), in order."""
    found: list[tuple[int, datetime, int]] = []
    for number, start in enumerate(starts):
        if start is None:
            continue
        if found:
            begin, at, count = found[-1]
            if begin + count == number and at + BUCKET * count == start:
                found[-1] = begin, at, count + 1
                continue
        found.append((number, start, 1))
    return tuple(found)


def _days_before(start: datetime, days: int, zone: ZoneInfo) -> datetime | None:
    there = (start.astimezone(zone).replace(tzinfo=None) - timedelta(days=days)).replace(tzinfo=zone)
    found = there.astimezone(UTC)
    # A time that the clocks jumped over comes back as another one.
    return found if found.astimezone(zone).replace(tzinfo=None) == there.replace(tzinfo=None) else None
