"""What is no guide to how a day ought to be: the times of other releases, of versions that were taken back, and of incidents."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from core.environment_watch import Incident
from core.release_journal import Journal
from core.watch_days import Interval

# Caches are cold and Pods are new for a while.
SETTLE = timedelta(minutes=30)


def cut_outs(
    journals: Iterable[Journal], incidents: Sequence[Incident] = (), *, watched: str = ""
) -> tuple[Interval, ...]:
    """Given the journals of ended releases and rollbacks, and the environment's incidents, return the times to cut out, in order.

    A release from its first entry until half an hour after its last; a version that was taken back for as long as it served. `watched`: the release whose own day it is.
    """
    ended = [one for one in journals if one.entries and one.release_id != watched]
    begun = {one.release_id: one.entries[0].at for one in ended if one.kind == "release"}
    found = [Interval(one.begin, one.end, one.why) for one in incidents]
    for one in ended:
        begin, end = one.entries[0].at, one.entries[-1].at + SETTLE
        if one.kind == "rollback":
            served: datetime = begun.get(one.plan_id, begin)
            found.append(Interval(served, end, f"{one.plan_id}, until {one.release_id} took it back"))
        else:
            found.append(Interval(begin, end, f"release {one.release_id}: {one.outcome or 'open'}"))
    return tuple(sorted(found, key=lambda one: (one.begin, one.end, one.why)))
