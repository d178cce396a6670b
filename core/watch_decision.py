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
# With the bucket behind it since when: there may be several.
BLIND = "blind-"


@dataclass(frozen=True)
class Trouble:
    """What speaks against the new version, in sentences. `statistical`: by counts; else by what was seen of its Pods, which no chance explains."""

    why: tuple[str, ...]
    statistical: bool

    @property
    def told(self) -> str:
        """As one sentence."""
        return "; ".join(self.why)


def trouble_of(judgement: Judgement | None, crash_loop: str) -> Trouble | None:
    """Given the judgement of the counts (None: there is none) and the sentence of a crash loop ("": there is none), return what may send a release back."""
    if crash_loop:
        return Trouble((crash_loop,), statistical=False)
    if judgement is not None and judgement.verdict == "degraded":
        return Trouble(judgement.reasons, statistical=True)
    return None


def act_on(
    trouble: Trouble | None, *, policy: str, hours: float, roll_back_hours: int, marks: Collection[str], way_back: str
) -> Act:
    """Given what speaks against the new version, return what is done now.

    Args:
        policy: of the environment, "alert" or "roll-back".
        hours: since the release.
        marks: what was done before; each thing is done once. What was only told may still be taken back once the policy says so, within the hours.
        way_back: why it cannot be taken back, "" when it can.
    """
    if trouble is None or ROLLBACK in marks:
        return "nothing"
    if policy == "roll-back" and hours < roll_back_hours and not way_back:
        return "roll back"
    if DEGRADED in marks:
        return "nothing"
    return "go forward" if policy == "roll-back" else "tell"


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
