"""The sources of a watch beside the requests, by name: how each is looked at, what it finds, and when it is not asked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import TypeVar

from core.environment import Environment
from core.errors import PermanentError
from core.evidence import Finding
from core.log_signatures import LogBaseline
from core.manifest import Record
from core.pods_look import watched_of
from core.watch_alerts import AlertsSeen, alerts_after, alerts_findings
from core.watch_health import HealthSeen, health_after, health_findings, servers_away
from core.watch_logs import LogSeen, logs_after, logs_findings
from core.watch_pods import PodsSeen, crash_loop, held_loop, pods_after, pods_findings
from core.watch_probes import ProbesSeen, probes_after, probes_findings
from core.watch_record import WatchLogs
from tasks.hasty_kubernetes import HastyClient
from tasks.object_store import ObjectMissingError
from tasks.release_run import release_of
from tasks.watch_alerts import look_at_alerts
from tasks.watch_health import look_at_health
from tasks.watch_logs import look_at_logs, train_logs
from tasks.watch_pods import look_at_pods
from tasks.watch_probes import look_at_probes
from tasks.watch_sources import Kept, Looked, Source
from tasks.watch_stand import Stand

# Of the two seconds that a tick has. What was before the release is learned once, in one of the first looks, and takes longer.
LOOK_SECONDS, LEARN_SECONDS = 1.5, 60.0
PODS, LOGS, ALERTS, HEALTH, PROBES = "pods", "logs", "alerts", "health", "probes"
Seen = TypeVar("Seen", bound=Record)


def replica_sets_of(looked: Looked) -> tuple[str, ...]:
    """The ReplicaSets that run the new version, as far as they were seen."""
    return tuple((looked.kept.get(PODS) or {}).get("replica_sets") or ())


def ready_of(looked: Looked, deployments: Collection[str], bucket: int) -> int:
    """How many Pods of the new version of these Deployments are ready now; 0 when this look did not tell."""
    seen = _parsed(PodsSeen, looked.kept.get(PODS))
    if seen is None or seen.bucket != bucket or PODS in looked.unread:
        return 0
    return sum(number for name, number in seen.ready.items() if name in deployments)


def outside_of(looked: Looked) -> ProbesSeen | None:
    """What was seen of the public address."""
    return None if PROBES in looked.not_asked else _parsed(ProbesSeen, looked.kept.get(PROBES))


def crash_loops_of(looked: Looked, bucket: int) -> tuple[str, str]:
    """Sentences when most Pods of the new version crash again and again: one that may send it back, one that may not (others crash, a server is away)."""
    seen = _parsed(PodsSeen, looked.kept.get(PODS))
    away = servers_away(_parsed(HealthSeen, looked.kept.get(HEALTH)), bucket=bucket)
    outside = "; ".join(f"{one} is away" for one in away)
    return crash_loop(seen, bucket=bucket, outside=outside) or "", held_loop(seen, bucket=bucket, outside=outside)


def _look_at_pods(stand: Stand, kept: Kept | None, bucket: int, _now: datetime) -> Kept:
    before = _parsed(PodsSeen, kept)
    old = (stand.start.old_side,) if stand.start.old_side else ()
    with HastyClient.within(release_of(stand.environment).context, seconds=LOOK_SECONDS) as client:
        look = look_at_pods(client, stand.start.namespace, watched_of(stand.plan()), before=before, old=old)
    return _kept(pods_after(before, look, bucket=bucket))


def _look_at_logs(stand: Stand, kept: Kept | None, bucket: int, now: datetime) -> Kept:
    before, settings, start = _parsed(LogSeen, kept), stand.settings.logs, stand.start
    names = [one.deployment for one in watched_of(stand.plan())]
    context = release_of(stand.environment).context
    known = _known_logs(stand, context, now)
    with HastyClient.within(context, seconds=LOOK_SECONDS) as client:
        look = look_at_logs(
            settings,
            first=start.first,
            now=now,
            seen=before,
            baseline=known,
            workloads=names,
            namespace=start.namespace,
            client=client,
        )
    return _kept(logs_after(before, look, bucket=bucket))


def _known_logs(stand: Stand, context: str | None, now: datetime) -> LogBaseline | None:
    """The errors in the logs before the release; learned by the first look that can, and kept. None when there is nothing to learn from."""
    start, settings = stand.start, stand.settings.logs
    try:
        return stand.records.known_logs().known
    except ObjectMissingError:
        pass
    # Pods that run now are the new version's, but for the old side's: what is learned from those would never be told.
    old = (start.old_side,) if start.old_side else ()
    workloads = old if settings.kind == "pods" else start.deployments
    if not workloads:
        return None
    try:
        with HastyClient.within(context, seconds=LEARN_SECONDS) as client:
            # Until the plan was made: what was logged while the new version came up is no guide either.
            learned = train_logs(
                settings,
                before=stand.planned_at(),
                now=now,
                workloads=workloads,
                namespace=start.namespace,
                client=client,
            )
    except PermanentError:
        # The old side is gone, or what is wrong is told by the look itself, which goes on.
        return None
    if learned is None:
        return None
    stand.records.keep(WatchLogs(environment=start.environment, release_id=start.release_id, known=learned))
    # Of several that learned at once, one kept its own.
    return stand.records.known_logs().known


def _look_at_alerts(stand: Stand, kept: Kept | None, bucket: int, _now: datetime) -> Kept | None:
    if stand.settings.alerts is None:
        return None
    look = look_at_alerts(stand.settings.alerts, begun=stand.start.released_at)
    return _kept(alerts_after(_parsed(AlertsSeen, kept), look, bucket=bucket))


def _look_at_health(stand: Stand, kept: Kept | None, bucket: int, _now: datetime) -> Kept:
    look = look_at_health(stand.environment, stand.settings.health)
    return _kept(health_after(_parsed(HealthSeen, kept), look, bucket=bucket))


def _look_at_probes(stand: Stand, kept: Kept | None, bucket: int, _now: datetime) -> Kept:
    return _kept(probes_after(_parsed(ProbesSeen, kept), look_at_probes(stand.settings.probes), bucket=bucket))


def _kept(seen: Record) -> Kept:
    return seen.model_dump(mode="json")


def _parsed(record: type[Seen], kept: Kept | None) -> Seen | None:
    return None if kept is None else record.model_validate(kept)


def _findings(
    record: type[Seen], findings: Callable[[Seen], tuple[Finding, ...]]
) -> Callable[[Kept], tuple[Finding, ...]]:
    return lambda kept: findings(record.model_validate(kept))


def _always(_environment: Environment) -> str:
    return ""


def _no_logs(environment: Environment) -> str:
    off = environment.watch is None or environment.watch.logs.kind == "off"
    return 'watch.logs.kind is "off"' if off else ""


def _no_alerts(environment: Environment) -> str:
    return (
        "" if environment.watch is not None and environment.watch.alerts is not None else "there is no [watch.alerts]"
    )


def _no_probes(environment: Environment) -> str:
    has = environment.watch is not None and environment.watch.probes.url is not None
    return "" if has else "watch.probes.url is empty"


SOURCES: Mapping[str, Source] = {
    PODS: Source(_look_at_pods, _findings(PodsSeen, pods_findings), _always),
    LOGS: Source(_look_at_logs, _findings(LogSeen, logs_findings), _no_logs),
    ALERTS: Source(_look_at_alerts, _findings(AlertsSeen, alerts_findings), _no_alerts),
    HEALTH: Source(_look_at_health, _findings(HealthSeen, health_findings), _always),
    PROBES: Source(_look_at_probes, _findings(ProbesSeen, probes_findings), _no_probes),
}
