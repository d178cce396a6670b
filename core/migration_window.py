"""Whether a migration may start now: its window is in local time, what fits into it is counted in real minutes."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

from core.environment_migration import Migration
from core.manifest import Record


class WindowAnswer(Record):
    """Whether the migration may start, in one sentence; `opens` is when it may at the earliest (UTC; now, when it may)."""

    may_start: bool
    sentence: str
    opens: datetime


def may_start(migration: Migration, zone: ZoneInfo, now: datetime) -> WindowAnswer:
    """Given the settings, the environment's zone and the time (aware), return whether the expected duration fits into a window that is open.

    Windows are laid on the days of the zone and compared in UTC, so one over a change of clocks is an hour shorter or longer than its times look. A time that
    comes twice is its first coming, one that is left out is as much later (PEP 495, fold=0).
    """
    now = now.astimezone(UTC)
    if migration.window is None:
        return WindowAnswer(may_start=True, sentence="no window is set: a migration may run at any time", opens=now)
    needed = timedelta(minutes=migration.expected_minutes)
    for opens, closes in _windows(*migration.window_times, zone, now):
        if opens <= now and now + needed <= closes:
            left = int((closes - now).total_seconds() // 60)
            told = f"the window {migration.window} {zone.key} is open for {left} min more, and {migration.expected_minutes} are expected"
            return WindowAnswer(may_start=True, sentence=told, opens=now)
        if opens > now and opens + needed <= closes:
            at = opens.astimezone(zone).strftime("%Y-%m-%d %H:%M")
            why = (
                "is closed"
                if not _is_open(migration, zone, now)
                else f"closes before the {migration.expected_minutes} min that are expected"
            )
            told = f"the window {migration.window} {zone.key} {why}; it opens next at {at}"
            return WindowAnswer(may_start=False, sentence=told, opens=opens)
    raise AssertionError("unreachable: the settings are checked so that some window of the next days is long enough")


def _is_open(migration: Migration, zone: ZoneInfo, now: datetime) -> bool:
    return any(opens <= now < closes for opens, closes in _windows(*migration.window_times, zone, now))


def _windows(opens: time, closes: time, zone: ZoneInfo, now: datetime) -> list[tuple[datetime, datetime]]:
    """The windows of the days around, in order, in UTC. More than one day ahead: a window may fall short on the day when clocks go forward."""
    today = now.astimezone(zone).date()
    found = []
    for offset in range(-2, 5):
        day = today + timedelta(days=offset)
        last = day if closes > opens else day + timedelta(days=1)
        begin, end = (
            datetime.combine(date, local, tzinfo=zone).astimezone(UTC) for date, local in ((day, opens), (last, closes))
        )
        if begin < end:
            found.append((begin, end))
    return found
