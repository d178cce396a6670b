"""The hand-over from a release to its watch, and from one watch to the next. The bucket is written first: what the server lacks, the next sweep makes."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta

from core.colour_pair import sides_of
from core.environment import Environment
from core.environment_watch import Watch
from core.errors import ConfigurationError, NightshiftError
from core.evidence import Finding
from core.grafana_annotation import handed_over
from core.release_plan import ReleasePlan
from core.watch_days import BUCKET, first_bucket
from core.watch_decision import STOPPED
from core.watch_record import OutsideBefore, WatchStart
from tasks.grafana_annotations import annotate
from tasks.recording import Notes, utc_now
from tasks.watch_counts import scraped_by
from tasks.watch_events import emit_watch_event
from tasks.watch_probes import look_at_probes
from tasks.watch_records import ENDED, WatchRecords, watches
from tasks.watch_schedule import WATCH, schedule_ticks, start_run

# The worker needs a moment to pick a run up; the bucket's last scrape must be in when it looks.
_SPARE = timedelta(seconds=5)


def watch_of(environment: Environment) -> Watch:
    """Given an environment, return its table [watch]. Raise ConfigurationError when it has none."""
    if environment.watch is None:
        raise ConfigurationError(
            "watch a release", environment.name, "the environment's file has no table [watch]", "Add one: docs/watch.md"
        )
    return environment.watch


def hand_over(environment: Environment, plan: ReleasePlan, released_at: datetime, notes: Notes) -> None:
    """Begin the watch of a release that is live, and end that of the one before as superseded. Never raises: the release is live whatever comes of this.

    Again for the same release it changes nothing.
    """
    if environment.watch is None:
        told = "nobody watches this release from here on: the environment has no table [watch] (docs/watch.md)"
        notes.findings.append(Finding(severity="note", text=told))
        return
    try:
        start = begin_watch(environment, plan, released_at)
        notes.add(facts={"watched from": start.first.isoformat(), "until": (start.first + 288 * BUCKET).isoformat()})
        stop_others(environment, plan.release_id)
        if environment.watch.grafana is not None:
            text = f"{plan.image} is live in {environment.name}"
            told_there = handed_over(environment.name, plan.release_id, released_at, text)
            notes.findings.append(annotate(environment.watch.grafana, told_there))
    except NightshiftError as error:
        told = f"the watch could not be begun; the next sweep of {WATCH} does it: {error}"
        notes.findings.append(Finding(severity="warning", text=told))


def begin_watch(environment: Environment, plan: ReleasePlan, released_at: datetime) -> WatchStart:
    """Write what is watched, unless it is there, and make its schedule; return what is watched.

    Raise what keeps it from being made; what was made of it stays.
    """
    watch_of(environment)
    records = WatchRecords(environment, plan.release_id)
    names = plan.deployments("api")
    workload = plan.sides.workload if plan.sides is not None else None
    start = WatchStart(
        environment=environment.name,
        release_id=plan.release_id,
        plan_sha256=plan.sha256,
        image=plan.image,
        commit=plan.commit,
        namespace=plan.namespace,
        deployments=tuple(sides_of(workload)) if workload is not None else tuple(one.name for one in names),
        old_side=plan.sides.live_name if plan.sides is not None else "",
        released_at=released_at,
        first=first_bucket(released_at),
        counts=counts_requests(environment),
    )
    if not records.keep(start):
        start = records.start()
    schedule_ticks(environment.name, plan.release_id, first_tick_of(environment, start))
    # One look at once: what was so at the beginning is what later ones are compared with.
    start_run(WATCH, environment.name, {"release_id": plan.release_id}, f"first-{plan.release_id}")
    emit_watch_event(environment.name, plan.release_id, "began")
    return start


def counts_requests(environment: Environment) -> bool:
    """Whether the environment's file says that requests are counted."""
    gates = environment.release.gates if environment.release is not None else None
    return gates is not None and gates.prometheus_url is not None and gates.metrics


def look_before(environment: Environment, release_id: str) -> None:
    """Look at the public address before a release changes anything, where one is asked, and keep that. Never raises: the release does not hang on it."""
    settings = environment.watch.probes if environment.watch is not None else None
    if settings is None or settings.url is None:
        return
    with suppress(NightshiftError):
        look = look_at_probes(settings)
        before = OutsideBefore(environment=environment.name, release_id=release_id, at=utc_now(), look=look)
        WatchRecords(environment, release_id).keep(before)


def first_tick_of(environment: Environment, start: WatchStart) -> datetime:
    """When the first tick is due: its bucket is over, and scraped."""
    return start.first + BUCKET + scraped_by(watch_of(environment).scrape_seconds) + _SPARE


def stop_others(environment: Environment, release_id: str) -> tuple[str, ...]:
    """Mark every watch that goes on, but that of a release, as superseded by it, and ask for the tick that ends it; return which."""
    found = []
    for other, names in watches(environment).items():
        if other != release_id and ENDED not in names:
            stop_watch(environment, other, f"superseded by release {release_id}", release_id)
            found.append(other)
    return tuple(found)


def stop_watch(environment: Environment, release_id: str, why: str, by: str) -> None:
    """Mark a watch as to be ended before its day is over. The next tick, which is asked for now, ends it."""
    WatchRecords(environment, release_id).keep_mark(STOPPED, why, by)
    start_run(WATCH, environment.name, {"release_id": release_id}, f"stop-{release_id}")


def taken_back(environment: Environment, release_id: str, rollback_id: str, notes: Notes) -> None:
    """End the watch of a release that was taken back; nothing when there is none. Never raises."""
    if environment.watch is None:
        return
    try:
        names = WatchRecords(environment, release_id).names()
        if names and ENDED not in names:
            stop_watch(environment, release_id, f"taken back by {rollback_id}", rollback_id)
            notes.add(facts={"watch": "ended"})
    except NightshiftError as error:
        told = f"its watch could not be told that it was taken back; the next sweep of {WATCH} ends it: {error}"
        notes.findings.append(Finding(severity="warning", text=told))
