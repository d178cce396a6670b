"""What a watch tells once each time though it says nothing of the release: that nobody sees the requests, or only a part of them, or that nobody outside gets an answer.

Each is kept as a mark with the bucket behind it since when: what ends and begins again is told again.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from core.watch_counts import BUCKET_MINUTES, Counts
from core.watch_decision import BLIND, OUTSIDE, UNSCRAPED, blind_since
from core.watch_doubts import outside_since
from core.watch_probes import ProbesSeen
from core.watch_scraped import ScrapedSeen, share_unseen


@dataclass(frozen=True)
class Notice:
    """The name of its mark, the run's state, the report's step, since which bucket it is so, why, and what (`{since}` stands for the time)."""

    mark: str
    state: str
    step: str
    since: int
    why: str
    text: str


@dataclass(frozen=True)
class Sight:
    """What a watch sees of the new version.

    Args:
        counts: each metric's; none: nothing is counted.
        closed: how many buckets are over.
        unread: why the last look could not count, and could not see the Pods; "": it could.
        counting: requests were to be counted when the watch began.
        outside, failed_before: the public address over the day, and which pages failed before the release (path → why).
        scraped: how many Pods are scraped.
    """

    counts: Collection[Counts]
    closed: int
    unread: str = ""
    counting: bool = True
    outside: ProbesSeen | None = None
    failed_before: dict[str, str] | None = None
    scraped: ScrapedSeen | None = None


def notices(sight: Sight, *, blind_minutes: int, coverage: float) -> Iterator[Notice]:
    """Given what a watch sees, for how long it may see nothing and the share of the day that must be seen, yield what is to be told, gravest first."""
    buckets = blind_minutes // BUCKET_MINUTES
    since = blind_since(sight.counts, sight.closed, buckets)
    if not sight.counts and sight.counting and sight.closed >= buckets:
        # Somebody switched it off before anything was counted.
        since = 0
    if since is not None:
        why = (
            sight.unread
            or "Prometheus answers, and has no such requests of its Pods: was a metric renamed, is it scraped?"
        )
        yield Notice(
            f"{BLIND}{since:03d}", "Blind", "count requests", since, why, "the observer is blind since {since}"
        )
    if sight.scraped is not None and since is None:
        part = sight.scraped.unseen_since(sight.closed, buckets, coverage)
        if part is not None:
            why = (
                f"{share_unseen(sight.scraped)} of the new version's Pods were not scraped by Prometheus, so that their requests are not counted:"
                " are they all in its targets?"
            )
            text = "the observer sees only a part of the requests since {since}"
            yield Notice(f"{UNSCRAPED}{part:03d}", "Blind", "count requests", part, why, text)
    away = outside_since(sight.outside, sight.failed_before or {}, sight.closed, buckets)
    if away is not None:
        text = "nobody outside gets an answer since {since}"
        yield Notice(f"{OUTSIDE}{away[0]:03d}", "Suspect", "look from outside", away[0], away[1], text)
