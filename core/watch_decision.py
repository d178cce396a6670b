"""What a watch does about what it found: tell, ask for a rollback, or advise to go forward. Each once."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from core.watch_counts import Counts
from core.watch_record import HowItEnded, WatchMark
from core.watch_verdict import Judgement

Act = Literal["nothing", "tell", "roll back", "go forward"]
# The marks, by the names of their objects in the bucket.
DEGRADED, ROLLBACK, STOPPED, SIGNED_OFF = "degraded", "rollback-asked", "stopped", "signed-off"
# Something looks worse, and may not send the release back.
SUSPECT = "suspect"
# With the bucket behind it since when: there may be several.
BLIND = "blind-"
# The same: nobody outside gets an answer; a part of the Pods is not scraped.
OUTSIDE, UNSCRAPED = "unreached-", "unscraped-"


@dataclass(frozen=True)
class Trouble:
    """What speaks against the new version, in sentences.

    worse: it is; else it only looks so, which is told and no more. lasts: it goes on, so that it may send the release back.
    """

    why: tuple[str, ...]
    worse: bool = True
    lasts: bool = True

    @property
    def told(self) -> str:
        """As one sentence."""
        return "; ".join(self.why)


def trouble_of(judgement: Judgement, crash_loop: str, held_loop: str = "") -> Trouble | None:
    """Given the judgement of the counts and the sentences of a crash loop that may send a release back and of one that may not ("": none), return what is told."""
    if crash_loop:
        return Trouble((crash_loop,))
    if judgement.verdict == "degraded":
        return Trouble(judgement.reasons, lasts=judgement.lasts)
    suspicions = (*judgement.advised, *([held_loop] if held_loop else []))
    return Trouble(suspicions, worse=False, lasts=False) if suspicions else None


def act_on(
    trouble: Trouble | None, *, policy: str, hours: float, roll_back_hours: int, marks: Collection[str], way_back: str
) -> Act:
    """Given what speaks against the new version, return what is done now.

    Args:
        policy: of the environment, "alert" or "roll-back".
        hours: since the release.
        marks: what was done before; each thing is done once. What was only told may still be taken back while it goes on, within the hours.
        way_back: why it cannot be taken back, "" when it can.
    """
    if trouble is None or ROLLBACK in marks or STOPPED in marks:
        return "tell" if trouble is not None and trouble.worse and not {DEGRADED, ROLLBACK} & set(marks) else "nothing"
    if not trouble.worse:
        return "nothing" if {DEGRADED, SUSPECT} & set(marks) else "tell"
    if policy == "roll-back" and hours < roll_back_hours and not way_back and trouble.lasts:
        return "roll back"
    if DEGRADED in marks:
        return "nothing"
    return "go forward" if policy == "roll-back" and trouble.lasts else "tell"


def blind_since(counts: Collection[Counts], closed: int, buckets: int) -> int | None:
    """Given each metric's counts, return the bucket since which one of them was not seen, without a break until now, if that is at least so many buckets ago."""
    found = None
    for one in counts:
        seen = ~np.isnan(one.requests[:closed])
        last = int(np.flatnonzero(seen)[-1]) + 1 if seen.any() else 0
        if closed - last >= buckets and (found is None or last < found):
            found = last
    return found


def how_it_ended(stopped: WatchMark | None) -> HowItEnded:
    """Given that a watch was stopped (None: it was not), return how it ends."""
    if stopped is None:
        return "the day is over"
    return "rolled back" if stopped.by.startswith("b-") else "superseded"


def final_judgement(judgement: Judgement, how: HowItEnded, marks: Collection[WatchMark]) -> Judgement:
    """The verdict at the end. What was told before is not taken back by a quiet evening; a part of a day is never healthy."""
    told = next((one for one in marks if one.what == DEGRADED), None)
    if told is not None and judgement.verdict != "degraded":
        judgement = replace(judgement, verdict="degraded", reasons=(told.why, *judgement.reasons))
    if how == "the day is over" or (how == "rolled back" and judgement.verdict == "degraded"):
        return judgement
    reasons = (f"{how} before the day was over; until then {_UNTIL_THEN[judgement.verdict]}", *judgement.reasons)
    return replace(judgement, verdict="superseded", reasons=reasons)


_UNTIL_THEN = {
    "healthy": "nothing was found",
    "degraded": "it was worse",
    "insufficient": "too little happened to say anything",
    "blind": "too little was seen to say anything",
    "superseded": "nothing was said",
}
