"""The watches of an environment, as its bucket tells: those that go on, and those that nobody signed off yet. Reads only."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from core.environment import Environment
from core.environment_watch import Watch
from core.errors import NightshiftError
from core.watch_decision import SIGNED_OFF
from core.watch_record import WatchEnd
from core.watch_standing import WatchStanding, standing_of
from tasks.watch_counts import scraped_by
from tasks.watch_records import ENDED, MARKS, WatchRecords, watches

# A day, and as long as a sign-off may take: what ended before is told by `nightshift evidence`.
_LOOKED_BACK = timedelta(days=30)


@dataclass(frozen=True)
class ListedWatch:
    """One watch: how it stands while it goes on, how it ended when its sign-off is open, or why neither is known."""

    release_id: str
    standing: WatchStanding | None = None
    ended: WatchEnd | None = None
    problem: str = ""

    @property
    def well(self) -> bool:
        """Whether nothing is wrong with it; that a sign-off is open is not wrong."""
        return not self.problem and (self.standing is None or not self.standing.states)


def list_watches(environment: Environment, now: datetime) -> tuple[ListedWatch, ...]:
    """Given an environment and the time (aware), return its watches that go on, and those whose sign-off is open, oldest first. Raise when the bucket cannot be read."""
    found = []
    for release_id, names in watches(environment).items():
        try:
            one = _listed(environment, release_id, names, now)
        except NightshiftError as error:
            one = ListedWatch(release_id, problem=str(error))
        if one is not None:
            found.append(one)
    return tuple(found)


def _listed(environment: Environment, release_id: str, names: Collection[str], now: datetime) -> ListedWatch | None:
    settings = environment.watch or Watch()
    records = WatchRecords(environment, release_id)
    if ENDED not in names:
        marks = [records.mark(name) for name in names if name.startswith(MARKS)]
        lag = scraped_by(settings.scrape_seconds)
        return ListedWatch(
            release_id, standing_of(records.start(), records.newest_tick(names), marks, settings, lag, now)
        )
    if SIGNED_OFF in names or not settings.sign_off:
        return None
    end = records.end()
    return ListedWatch(release_id, ended=end) if end.how == "the day is over" and end.at > now - _LOOKED_BACK else None
