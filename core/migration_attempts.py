"""Which attempt of a migration follows another by itself: one more for what is pending, or one more try for a lock, never after what is unknown."""

from core.environment_migration import Migration
from core.manifest import Record
from core.migration_outcome import Judgement

FIRST_PAUSE_MS, LONGEST_PAUSE_MS = 5_000, 60_000


class AttemptPlan(Record):
    """One attempt: its number, how many Jobs have been run for pending migrations and how many tries for a lock, its lock_timeout, and the pause before it."""

    attempt: int = 1
    run: int = 1
    lock_try: int = 1
    lock_timeout_ms: int
    pause_ms: int = 0


def first_attempt(settings: Migration) -> AttemptPlan:
    """The first attempt's plan."""
    return AttemptPlan(lock_timeout_ms=_lock_timeout(settings, 1))


def next_attempt(plan: AttemptPlan, judgement: Judgement, settings: Migration, chance: float) -> AttemptPlan | None:
    """Given an attempt, what came of it and a random number of [0, 1), return the attempt that follows it by itself, or None.

    Tries for a lock are as many as the settings say, the last one with the longer lock_timeout; between them a pause of 5 s, doubled each time, at most a minute,
    by up to half shorter.
    """
    if judgement.again == "pending" and plan.run < settings.runs:
        return AttemptPlan(attempt=plan.attempt + 1, run=plan.run + 1, lock_timeout_ms=_lock_timeout(settings, 1))
    if judgement.again == "lock-timeout" and judgement.outcome == "clean" and plan.lock_try < settings.lock_attempts:
        pause = min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (plan.lock_try - 1))
        following = plan.lock_try + 1
        return AttemptPlan(
            attempt=plan.attempt + 1,
            run=plan.run,
            lock_try=following,
            lock_timeout_ms=_lock_timeout(settings, following),
            pause_ms=round(pause * (1 - chance / 2)),
        )
    return None


def _lock_timeout(settings: Migration, lock_try: int) -> int:
    last = lock_try == settings.lock_attempts and lock_try > 1
    return settings.last_lock_timeout_ms if last else settings.lock_timeout_ms
