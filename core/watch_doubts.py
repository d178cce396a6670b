"""Why a day in which nothing was found is no pass all the same: users outside had no answer, or a part of the requests was counted nowhere.

None of it sends a release back: the worker's own network fails, too. But what a watch could not see, it does not call well.
"""

from collections.abc import Mapping
from dataclasses import replace

from core.watch_probes import PathSeen, ProbesSeen
from core.watch_scraped import ScrapedSeen, share_unseen
from core.watch_verdict import Judgement

# One look that fails may be a lost packet.
_LASTING = 2


def outside_doubts(
    seen: ProbesSeen | None, before: Mapping[str, str], coverage: float, unread: str, closed: int = 0
) -> tuple[str, ...]:
    """Given what was seen from outside (None: nothing yet), which pages failed before the release (path → why), the share of looks that must go well, why the last
    look could not be made and how many buckets are over, return why the day is no pass."""
    if seen is None or not seen.paths:
        return (f"the public address was never asked: {unread}",) if unread else ()
    failed = tuple(
        f"from outside: GET {seen.url}{path} failed in {one.failed} of {one.looks} looks{_since(path, before)}: {one.why}"
        for path, one in sorted(seen.paths.items())
        if one.looks - one.failed < coverage * one.looks
    )
    asked = min(one.looks for one in seen.paths.values())
    if unread and asked < coverage * closed:
        return (*failed, f"the public address was asked in {asked} of {closed} buckets: {unread}")
    return failed


def scraped_doubts(seen: ScrapedSeen | None, coverage: float) -> tuple[str, ...]:
    """Given how many Pods were scraped, and the share of the day that must be seen, return why the day is no pass."""
    if seen is None or seen.seen_share >= coverage:
        return ()
    return (
        f"{share_unseen(seen)} of the new version's Pods were not scraped: what became of their requests is not known",
    )


def outside_since(
    seen: ProbesSeen | None, before: Mapping[str, str], closed: int, buckets: int
) -> tuple[int, str] | None:
    """Given what was seen from outside, which pages failed before, how many buckets are over and how many of them are too many, return the bucket since which a page that
    was well before fails in each look until now, and that in a sentence; None while there is none."""
    if seen is None:
        return None
    found = []
    for path, one in seen.paths.items():
        since, looks = _failing(one)
        if path not in before and looks >= _LASTING and closed - since >= buckets:
            found.append((since, f"GET {seen.url}{path} failed in each of the last {looks} looks: {one.why}"))
    return min(found, default=None)


def doubted(judgement: Judgement, doubts: tuple[str, ...]) -> Judgement:
    """Given what the counts say, and why they are not the whole, return what the watch says: never healthy with a doubt. What is worse stays so."""
    if not doubts or judgement.verdict == "degraded":
        return judgement
    verdict = "insufficient" if judgement.verdict == "healthy" else judgement.verdict
    return replace(judgement, verdict=verdict, reasons=(*doubts, *judgement.reasons), doubts=doubts)


def _failing(one: PathSeen) -> tuple[int, int]:
    """The bucket since which each look failed, until the last one, and how many looks those are."""
    known = [(bucket, letter) for bucket, letter in enumerate(one.buckets) if letter != " "]
    since, looks = len(one.buckets), 0
    for bucket, letter in reversed(known):
        if letter != "x":
            break
        since, looks = bucket, looks + 1
    return since, looks


def _since(path: str, before: Mapping[str, str]) -> str:
    return f" (and before the release, too: {before[path]})" if path in before else ""
