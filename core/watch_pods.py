"""The Pods of a released version over a day: restarts, ends for want of memory, what keeps them waiting, replicas that are not available, Warnings of Kubernetes.

Restarts are counted by how much a container's own count grew from look to look, by Pod uid: what it was before the watch began does not count, a Pod that vanishes
keeps what it had, and a new one begins at 0. All of it is bounded, however many Pods there are: of many a sample is looked at (core.pods_look).
"""

from collections.abc import Iterable, Sequence

from pydantic import Field

from core.crash_loop import LoopState, Tracked, container_key, ended_words, loop_states, told_loops, track, verdict
from core.evidence import Finding
from core.manifest import Record
from core.pods_elsewhere import Elsewhere
from core.pods_look import (
    MOST_CONTAINERS,
    MOST_REPLICA_SETS,
    ContainerLook,
    EventLook,
    PodLook,
    PodsLook,
)
from core.pods_standing import LASTING, Standing, standing_after
from core.watch_words import at_bucket, note, warning

_MOST_TOTALS, _MOST_EVENTS, _MOST_PODS, _MOST_TOLD = 8, 8, 2, 5
# Restarts of one container of a Deployment in a day, up to which they are only noted.
_FEW_RESTARTS = 2
_OOM = "OOMKilled"


class ContainerTotal(Record):
    """What became of one container of a Deployment, over all Pods. `oom_kills`: at least so many, since of several ends between two looks only the last is known."""

    deployment: str
    container: str
    first: int
    last: int
    ended: str
    restarts: int = 0
    oom_kills: int = 0
    pods: int = 0
    names: tuple[str, ...] = ()


class EventTotal(Record):
    """Warnings of one reason about a Deployment and what belongs to it."""

    deployment: str
    reason: str
    count: int
    first: int
    last: int
    message: str


class PodsSeen(Record):
    """All that was seen until the look of `bucket` (-1: right at the watch's beginning). `tracked` and `events_known`: what the next look is compared with.

    `ready`: Deployment → how many Pods of the new version were ready in that look."""

    bucket: int
    looks: int
    replica_sets: tuple[str, ...] = ()
    tracked: dict[str, Tracked] = Field(default_factory=dict)
    totals: tuple[ContainerTotal, ...] = ()
    standing: tuple[Standing, ...] = ()
    events: tuple[EventTotal, ...] = ()
    events_known: dict[str, int] = Field(default_factory=dict)
    loops: tuple[LoopState, ...] = ()
    elsewhere: Elsewhere | None = None
    crashed_before: tuple[str, ...] = ()
    pods_left_out: int = 0
    events_left_out: bool = False
    events_unread: str = ""
    ready: dict[str, int] = Field(default_factory=dict)


def pods_after(before: PodsSeen | None, look: PodsLook, *, bucket: int) -> PodsSeen:
    """Given what was seen before, and the look made when a bucket was over, return what was seen after it. A look of an earlier bucket changes nothing."""
    if before is not None and bucket < before.bucket:
        return before
    known = before or PodsSeen(bucket=bucket, looks=0)
    previous = before.bucket if before is not None else None
    tracked: dict[str, Tracked] = {}
    totals = {(one.deployment, one.container): one for one in known.totals}
    for pod in look.pods:
        for one in pod.containers:
            key = container_key(pod, one)
            if (after := track(known.tracked.get(key), one, before=previous, bucket=bucket)) is None:
                continue
            tracked[key] = after
            counted = known.tracked[key].counted if key in known.tracked else 0
            if more := after.counted - counted:
                what = (pod.deployment, one.container)
                totals[what] = _total(totals.get(what), pod, one, bucket, more=more, first_of_pod=not counted)
    new = previous is None or bucket > previous
    told = known.events_known if before is not None else {one.key: one.count for one in look.events}
    return PodsSeen(
        bucket=bucket,
        looks=known.looks + int(new),
        replica_sets=tuple(dict.fromkeys((*known.replica_sets, *look.replica_sets)))[-MOST_REPLICA_SETS:],
        tracked=_bounded(tracked, known.tracked),
        totals=tuple(
            sorted(totals.values(), key=lambda one: (-one.restarts, one.deployment, one.container))[:_MOST_TOTALS]
        ),
        standing=standing_after(known.standing, look, bucket, new=new),
        events=_events(known.events, look.events, told, bucket),
        events_known=_events_known(told, look.events),
        loops=loop_states(look.pods, tracked, bucket),
        elsewhere=look.elsewhere,
        crashed_before=known.crashed_before if before is not None else _crashing(look.elsewhere),
        pods_left_out=max(known.pods_left_out, look.pods_left_out),
        events_left_out=known.events_left_out or look.events_left_out,
        events_unread=look.events_unread or known.events_unread,
        ready={one.name: one.new_ready for one in look.deployments},
    )


def crash_loop(seen: PodsSeen | None, *, bucket: int, outside: str = "") -> str | None:
    """Given what was seen, return a sentence when the release is to go back because the new version crashes again and again (core.crash_loop); else None.

    Args:
        bucket: that of now. What was seen earlier is no reason to act now.
        outside: why it may be something else, of which other sources know: a database that is away.
    """
    if seen is None or seen.bucket != bucket or outside:
        return None
    return verdict(seen.loops, seen.elsewhere, seen.crashed_before)[0] or None


def held_loop(seen: PodsSeen | None, *, bucket: int, outside: str = "") -> str:
    """A sentence when most new Pods crash again and again, and why that may not send the release back; "" when they do not, or it may."""
    if seen is None or seen.bucket != bucket:
        return ""
    acting, held = verdict(seen.loops, seen.elsewhere, seen.crashed_before)
    why = outside or held
    told = "; ".join(told_loops(seen.loops)[:3])
    return f"{told}; it is not sent back for it: {why}" if told and why and (outside or not acting) else ""


def pods_findings(seen: PodsSeen) -> tuple[Finding, ...]:
    """Given what was seen, return what is worth telling, worst first."""
    found = [*_of_loops(seen), *map(_of_total, seen.totals[:_MOST_TOLD]), *_of_standing(seen)]
    found += [note(_of_event(one)) for one in seen.events[:_MOST_TOLD]]
    if seen.pods_left_out:
        found.append(
            note(
                f"of the new version's Pods {seen.pods_left_out} were not looked at, so that at most {MOST_CONTAINERS} containers are"
            )
        )
    if seen.events_unread:
        found.append(note(f"Warnings of Kubernetes could not be read: {seen.events_unread}"))
    if seen.events_left_out:
        found.append(
            note(
                "there were more Warnings of Kubernetes in the namespace than were read: of them some may be missing here"
            )
        )
    return tuple(sorted(found, key=lambda one: one.severity != "warning"))


def _total(
    kept: ContainerTotal | None, pod: PodLook, one: ContainerLook, bucket: int, *, more: int, first_of_pod: bool
) -> ContainerTotal:
    """A container's total with some restarts more."""
    kept = kept or ContainerTotal(
        deployment=pod.deployment, container=one.container, first=bucket, last=bucket, ended=""
    )
    return ContainerTotal(
        deployment=kept.deployment,
        container=kept.container,
        restarts=kept.restarts + more,
        oom_kills=kept.oom_kills + int(one.ended == _OOM),
        pods=kept.pods + int(first_of_pod),
        first=kept.first,
        last=bucket,
        ended=ended_words(one.ended, one.exit_code),
        names=tuple(dict.fromkeys((pod.name, *kept.names)))[:_MOST_PODS],
    )


def _bounded(tracked: dict[str, Tracked], before: dict[str, Tracked]) -> dict[str, Tracked]:
    """With those that are not in this look, the last seen first, as far as there is room: a Pod that a look misses is not a new one in the next."""
    gone = sorted(
        (pair for pair in before.items() if pair[0] not in tracked), key=lambda pair: (-pair[1].last, pair[0])
    )
    return {**tracked, **dict(gone[: max(0, MOST_CONTAINERS - len(tracked))])}


def _events(
    before: Iterable[EventTotal], events: Sequence[EventLook], told: dict[str, int], bucket: int
) -> tuple[EventTotal, ...]:
    totals = {(one.deployment, one.reason): one for one in before}
    for event in events:
        if (more := event.count - told.get(event.key, 0)) <= 0:
            continue
        kept = totals.get((event.deployment, event.reason))
        totals[event.deployment, event.reason] = EventTotal(
            deployment=event.deployment,
            reason=event.reason,
            count=(kept.count if kept is not None else 0) + more,
            first=kept.first if kept is not None else bucket,
            last=bucket,
            message=event.message,
        )
    return tuple(sorted(totals.values(), key=lambda one: (-one.count, one.deployment, one.reason))[:_MOST_EVENTS])


def _events_known(told: dict[str, int], events: Sequence[EventLook]) -> dict[str, int]:
    """Those of this look, each with the largest count that it ever had."""
    return {one.key: max(one.count, told.get(one.key, 0)) for one in events}


def _crashing(elsewhere: Elsewhere | None) -> tuple[str, ...]:
    return elsewhere.everywhere.names if elsewhere is not None else ()


def _of_loops(seen: PodsSeen) -> list[Finding]:
    acting, held = verdict(seen.loops, seen.elsewhere, seen.crashed_before)
    if acting:
        return [warning(f"{acting} ({at_bucket(seen.bucket)})")]
    if not held:
        return []
    return [
        warning(f"{told}; it is no reason to go back: {held} ({at_bucket(seen.bucket)})")
        for told in told_loops(seen.loops)[:3]
    ]


def _of_total(one: ContainerTotal) -> Finding:
    times = "once" if one.restarts == 1 else f"{one.restarts} times"
    memory = f", at least {one.oom_kills} of these for want of memory (OOMKilled)" if one.oom_kills else ""
    text = (
        f"{one.deployment}: container {one.container} was restarted {times} on {one.pods} Pods ({', '.join(one.names)}){memory},"
        f" first in {at_bucket(one.first)}, last in bucket {one.last} ({one.ended or 'why is not told'})"
    )
    return warning(text) if one.oom_kills or one.restarts > _FEW_RESTARTS else note(text)


def _of_standing(seen: PodsSeen) -> list[Finding]:
    lasting = [one for one in seen.standing if one.looks >= LASTING]
    return [
        warning(
            f"{one.deployment}: {one.what}, up to {one.most} of {one.of}{f', e.g. Pod {one.example}' if one.example else ''},"
            f" in {one.looks} looks since {at_bucket(one.since)}{'' if one.last == seen.bucket else f', last in bucket {one.last}'}"
        )
        for one in lasting[:_MOST_TOLD]
    ]


def _of_event(one: EventTotal) -> str:
    return f"{one.deployment}: {one.count} Warnings {one.reason} since {at_bucket(one.first)}, last in bucket {one.last}: {one.message}"
