"""What a sweep finds: releases whose watch was never begun, watches that go on, that stand still, and sign-offs that nobody gave."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from core.environment import Environment
from core.errors import IntegrityError
from core.release_rollback import live_releases, why_not_live
from core.watch_counts import BUCKETS
from core.watch_days import BUCKET
from core.watch_decision import SIGNED_OFF, STOPPED
from tasks.recording import Notes
from tasks.release_records import closed_releases, read_plan
from tasks.retrying import step
from tasks.watch_records import ENDED, START, WatchRecords, watches
from tasks.watch_schedule import ask_for_sign_off, schedule_ticks
from tasks.watch_stand import Stand
from tasks.watch_start import first_tick_of, hand_over, stop_watch, watch_of

# A tick may be late; three that did not come are a watch that stands still. No more: after fifteen minutes of silence prefect.yaml's watch-stands-still starts a sweep.
STILL_BUCKETS = 3
LIVE_AGAIN = "live-again"
# Of so many of the newest releases a sweep reads the signature itself; of older ones that it is there.
SIGNATURES_READ = 10


@step("begin the watches that are missing")
def begin_missing(environment: Environment, now: datetime) -> tuple[str, ...]:
    """Begin the watch of the newest release that is live, if it ended within the last day and has none; return what was found about it.

    Before that, mark each that goes on as to be ended whose release is not live any more: who took its place, or took it back, may have been killed before it could.
    """
    found = closed_releases(environment, now - timedelta(days=29))
    journals = [one.journal for one in found]
    for release_id, kept in watches(environment).items():
        if ENDED not in kept and STOPPED not in kept and (why := why_not_live(journals, release_id)) is not None:
            stop_watch(environment, release_id, *why)
    live = live_releases(journals)
    if not live:
        return ()
    newest = next(one for one in found if one.release_id == live[-1].release_id)
    records = WatchRecords(environment, newest.release_id)
    names = records.names()
    if START in names:
        return _live_again(records, names, now)
    if newest.at < now - timedelta(days=1):
        return ()
    notes = Notes()
    journal = newest.journal
    plan = read_plan(environment, journal.plan_id, journal.plan_sha256)
    hand_over(environment, plan, journal.entries[-1].at, notes)
    told = [one.text for one in notes.findings] or ["begun now"]
    return tuple(f"the watch of {newest.release_id} was missing: {one}" for one in told)


def _live_again(records: WatchRecords, names: Collection[str], now: datetime) -> tuple[str, ...]:
    """That nobody watches a release that is live again, since the one that superseded it was taken back; told once."""
    if ENDED not in names or LIVE_AGAIN in names:
        return ()
    end, start = records.end(), records.start()
    if end.how != "superseded" or now >= start.first + BUCKET * BUCKETS:
        return ()
    told = f"{start.release_id} is live again, and its watch ended when another release came: nobody watches it, so look at it yourself"
    return (told,) if records.keep_mark(LIVE_AGAIN, told, "the sweep") else ()


@step("look for watches that go on")
def open_watches(environment: Environment) -> tuple[str, ...]:
    """The releases whose watch goes on, oldest first; each has its schedule after this."""
    found = tuple(release_id for release_id, names in watches(environment).items() if ENDED not in names)
    for release_id in found:
        try:
            start = WatchRecords(environment, release_id).start()
        except IntegrityError:
            # Its own look tells it, and the others go on.
            continue
        schedule_ticks(environment.name, release_id, first_tick_of(environment, start))
    return found


def stood_still(stand: Stand, now: datetime) -> str:
    """Since when no tick came, in a sentence; "" when they come."""
    before = stand.before
    last = before.closed if before is not None else 0
    behind = stand.closed_by(now) - last
    if stand.ended is not None or behind < STILL_BUCKETS:
        return ""
    since = before.at if before is not None else stand.start.released_at
    return (
        f"the watch of {stand.release_id} stood still since {since:%Y-%m-%d %H:%M} UTC: {behind} buckets were read afterwards only; "
        "see that the worker and the Prefect server run"
    )


@step("look for sign-offs that are open")
def remind(environment: Environment, now: datetime) -> tuple[str, ...]:
    """Remind of each sign-off that is open for too long, once in so many days: its run is started anew where it was given up. Return what was told."""
    told: list[str] = []
    if not watch_of(environment).sign_off:
        return ()
    found = watches(environment)
    verified = tuple(found)[-SIGNATURES_READ:]
    for release_id, names in found.items():
        if ENDED not in names or (SIGNED_OFF in names and release_id not in verified):
            continue
        try:
            told += _remind_of(environment, release_id, names, now)
        except IntegrityError as error:
            # One release's record that was changed keeps nobody from being reminded of another's.
            told.append(f"{release_id}: {error}")
    return tuple(told)


def _remind_of(environment: Environment, release_id: str, names: Collection[str], now: datetime) -> tuple[str, ...]:
    records, settings = WatchRecords(environment, release_id), watch_of(environment)
    if SIGNED_OFF in names:
        # That it is there signs nothing: it must be ours.
        records.mark(SIGNED_OFF)
        return ()
    end = records.end()
    if end.how != "the day is over":
        return ()
    times = max(0, (now - end.at) // timedelta(days=settings.sign_off_days))
    # The first time, too: the tick that ended the watch may have been killed before it asked.
    run_id = ask_for_sign_off(environment.name, release_id, times)
    mark = f"reminded-{times}"
    if times < 1 or mark in names:
        return ()
    records.keep_mark(mark, f"run {run_id}", "the sweep")
    return (
        f"nobody signed off {release_id} ({end.verdict}), which ended {end.at:%Y-%m-%d}: run {run_id} waits for it",
    )
