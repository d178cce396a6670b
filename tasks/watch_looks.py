"""The sources of a watch beside the requests, by name: how each is looked at, what it finds, and when it is not asked."""

from __future__ import annotations

from collections.abc import Mapping

from core.environment import Environment
from core.evidence import Finding
from core.pods_look import watched_of
from core.watch_pods import PodsSeen, crash_loop, pods_after, pods_findings
from tasks.hasty_kubernetes import HastyClient
from tasks.release_run import release_of
from tasks.watch_pods import look_at_pods
from tasks.watch_sources import Kept, Looked, Source
from tasks.watch_stand import Stand

# Of the two seconds that a tick has.
LOOK_SECONDS = 1.5


def replica_sets_of(looked: Looked) -> tuple[str, ...]:
    """The ReplicaSets that run the new version, as far as they were seen."""
    return tuple((looked.kept.get("pods") or {}).get("replica_sets") or ())


def crash_loop_of(looked: Looked, bucket: int) -> str:
    """A sentence when the Pods of the new version crash again and again; "" when they do not, or nobody knows."""
    kept = looked.kept.get("pods")
    return "" if kept is None else crash_loop(PodsSeen.model_validate(kept), bucket=bucket) or ""


def _pods(stand: Stand, kept: Kept | None, bucket: int) -> Kept:
    before = None if kept is None else PodsSeen.model_validate(kept)
    plan = stand.plan()
    context = release_of(stand.environment).context
    with HastyClient.within(context, seconds=LOOK_SECONDS) as client:
        old = (stand.start.old_side,) if stand.start.old_side else ()
        look = look_at_pods(client, stand.start.namespace, watched_of(plan), before=before, old=old)
    return pods_after(before, look, bucket=bucket).model_dump(mode="json")


def _pods_findings(kept: Kept) -> tuple[Finding, ...]:
    return pods_findings(PodsSeen.model_validate(kept))


def _always(_environment: Environment) -> str:
    return ""


SOURCES: Mapping[str, Source] = {"pods": Source(_pods, _pods_findings, _always)}
