"""How a watch stands: what is watched, what was seen until now, what was done."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from core.environment import Environment
from core.errors import PermanentError
from core.release_plan import ReleasePlan
from core.watch_counts import BUCKETS
from core.watch_days import BUCKET, closed_buckets
from core.watch_decision import STOPPED
from core.watch_record import WatchEnd, WatchMark, WatchStart, WatchTick
from tasks.release_records import plan_made_at, read_plan
from tasks.watch_counts import scraped_by
from tasks.watch_records import ENDED, MARKS, OUTSIDE_BEFORE, START, WatchRecords
from tasks.watch_start import watch_of


class Stand:
    """Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside."""

    def __init__(
        self,
        environment: Environment,
        records: WatchRecords,
        names: Sequence[str],
        start: WatchStart,
        *,
        before: WatchTick | None,
        marks: Sequence[WatchMark],
        ended: WatchEnd | None,
    ) -> None:
        self.environment, self.records, self.names, self.start = environment, records, frozenset(names), start
        self.before, self.marks, self.ended = before, tuple(marks), ended
        self.settings = watch_of(environment)

    @classmethod
    def read(cls, environment: Environment, release_id: str) -> Stand:
        """Given a release, return how its watch stands. Raise PermanentError when it has none, IntegrityError when a record of it is forged or changed."""
        records = WatchRecords(environment, release_id)
        names = records.names()
        if START not in names:
            raise PermanentError(
                "watch a release",
                release_id,
                f"no watch of it was begun in environment {environment.name}",
                f"See its releases: nightshift releases {environment.name}",
            )
        return cls(
            environment,
            records,
            names,
            records.start(),
            before=records.newest_tick(names),
            marks=[records.mark(name) for name in names if name.startswith(MARKS)],
            ended=records.end() if ENDED in names else None,
        )

    @property
    def release_id(self) -> str:
        """The release that is watched."""
        return self.start.release_id

    def plan(self) -> ReleasePlan:
        """The release's signed plan. Raise ObjectMissingError when it is gone, IntegrityError when it is another one."""
        return read_plan(self.environment, self.release_id, self.start.plan_sha256)

    def planned_at(self) -> datetime:
        """When that plan was made: nothing of the new version was there before. Raise what `plan` raises."""
        return plan_made_at(self.environment, self.release_id, self.start.plan_sha256)

    @property
    def stopped(self) -> WatchMark | None:
        """That it is to be ended before its day is over; None: it is not."""
        return next((one for one in self.marks if one.what == STOPPED), None)

    def failed_before(self) -> dict[str, str]:
        """The pages of the public address that failed before the release, and why; none where nobody looked. Raise IntegrityError for a forged record."""
        return self.records.outside_before().failing if OUTSIDE_BEFORE in self.names else {}

    def closed_by(self, now: datetime) -> int:
        """How many buckets are over and scraped at a time; none that was not over when the watch was stopped."""
        closed = closed_buckets(self.start.first, now, scraped_by(self.settings.scrape_seconds))
        stopped = self.stopped
        return closed if stopped is None else min(closed, closed_buckets(self.start.first, stopped.at, timedelta(0)))

    def is_over(self, closed: int) -> bool:
        """Whether nothing more is to come."""
        return closed >= BUCKETS or self.stopped is not None

    def hours(self, now: datetime) -> float:
        """Hours since the release."""
        return (now - self.start.released_at) / timedelta(hours=1)

    def time_of(self, bucket: int) -> datetime:
        """When a bucket begins."""
        return self.start.first + BUCKET * bucket
