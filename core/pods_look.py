"""What one look at the Pods of a released version finds, from the documents of the Kubernetes API.

Pods of the new version are those of ReplicaSets that run the released image: a `kubectl rollout restart` makes another ReplicaSet of the same image, and its Pods
are the new version's, too. A ReplicaSet without Pods is left out unless it is the newest: it may be one of long ago.

However many Pods there are, a look is small: of more than `MOST_CONTAINERS` containers those of a sample of Pods are kept, chosen by a hash of their uids, so
that it is the same Pods in each look.
"""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from core.container_trouble import containers_of, cut
from core.manifest import Record
from core.pod_health import is_ready, lasting_pods
from core.pod_trouble import controller_of, revision_of
from core.pods_elsewhere import Elsewhere, begun, elsewhere_of
from core.release_plan import ReleasePlan, images_of, template_of

Document = dict[str, Any]

MOST_CONTAINERS = 50
MOST_REPLICA_SETS = 24
MOST_EVENTS = 60
_MOST_OF_A_POD = 10
_LONGEST_NAME, _LONGEST_REASON, _LONGEST_MESSAGE = 63, 40, 120


class Watched(Record):
    """A Deployment of the release, and which of its containers run which image since."""

    deployment: str
    containers: tuple[str, ...]
    image: str


class ContainerLook(Record):
    """A container of a Pod. `released`: it runs the released image; `begun`: it ran at least once; `ended`: why it last ended, "" when it never did."""

    container: str
    released: bool
    restarts: int
    ready: bool
    begun: bool
    waiting: str = ""
    ended: str = ""
    exit_code: int | None = None


class PodLook(Record):
    """A Pod of the new version that lasts (it has not ended, and nobody is ending it)."""

    key: str
    name: str
    deployment: str
    node: str
    containers: tuple[ContainerLook, ...]


class DeploymentLook(Record):
    """A Deployment: how many Pods it is to have, how many of those are not available, how many of the new version there are, and how many of
    these are ready. `there`: it exists."""

    name: str
    there: bool = True
    wanted: int = 0
    unavailable: int = 0
    new_pods: int = 0
    new_ready: int = 0


class EventLook(Record):
    """A Warning of Kubernetes about one of the Deployments or what belongs to it."""

    key: str
    count: int
    reason: str
    deployment: str
    message: str


class PodsLook(Record):
    """What was found. `elsewhere` None: not looked at. `events_unread`: why there are no events, which is not that there were none."""

    pods: tuple[PodLook, ...] = ()
    deployments: tuple[DeploymentLook, ...] = ()
    replica_sets: tuple[str, ...] = ()
    events: tuple[EventLook, ...] = ()
    elsewhere: Elsewhere | None = None
    pods_left_out: int = 0
    events_left_out: bool = False
    events_unread: str = ""


@dataclass(frozen=True)
class Found:
    """The documents of one Deployment: itself (None: there is none), and what its selector matches."""

    watched: Watched
    deployment: Document | None
    replica_sets: Sequence[Document] = ()
    pods: Sequence[Document] = ()


def watched_of(plan: ReleasePlan) -> tuple[Watched, ...]:
    """Given a release's plan, return its Deployments as they are called after it, each with the image that its Pods run since."""
    sides = plan.sides
    names = {sides.live_name: sides.following_name} if sides is not None else {}
    return tuple(
        Watched(
            deployment=names.get(one.name, one.name),
            containers=one.containers,
            image=plan.image_of(one),
        )
        for one in plan.targets
        if one.kind == "Deployment"
    )


def is_suspicious(found: Iterable[Found]) -> bool:
    """Whether of some Deployment most new Pods that began were restarted ever: only then it matters whether others crash as well (core.crash_loop asks for more)."""
    for one in found:
        running = [pod for pod in _new_pods(one) if any(begun(status) for _, status in containers_of(pod))]
        restarted = [pod for pod in running if any(status.get("restartCount") for _, status in containers_of(pod))]
        if 2 * len(restarted) > len(running):
            return True
    return False


def look_of(
    found: Sequence[Found],
    events: Iterable[Document],
    *,
    everyone: Sequence[Document] | None = None,
    old: Collection[str] = (),
) -> PodsLook:
    """Given the documents of each Deployment, the Warnings of the namespace, all its Pods where they were listed, and the names of the old version's Deployments,
    return the look.

    Raise KeyError, TypeError, ValueError or AttributeError when they are no such documents.
    """
    sampled, left_out = _sample(found)
    nodes = {pod.node for pod in sampled if any(one.restarts for one in pod.containers)}
    ours = {str(pod["metadata"]["uid"]) for one in found for pod in one.pods}
    return PodsLook(
        pods=sampled,
        deployments=tuple(_deployment(one) for one in found),
        replica_sets=tuple(name for one in found for name in _new_replica_sets(one))[:MOST_REPLICA_SETS],
        events=_events(found, events),
        elsewhere=None if everyone is None else elsewhere_of(everyone, ours, nodes, old),
        pods_left_out=left_out,
    )


def key_of(*parts: str) -> str:
    """A short name for an object: of its uid, and what of it."""
    return hashlib.sha256("/".join(parts).encode()).hexdigest()[:12]


def _sample(found: Sequence[Found]) -> tuple[tuple[PodLook, ...], int]:
    """The new Pods, or of too many those that come first by their keys; and how many were left out."""
    sampled: list[PodLook] = []
    left_out, room = 0, max(1, MOST_CONTAINERS // max(1, len(found)))
    for one in found:
        pods = sorted((_pod(one.watched, pod, room) for pod in _new_pods(one)), key=lambda pod: pod.key)
        size = 0
        for pod in pods:
            size += len(pod.containers)
            if size > room and size > len(pod.containers):
                left_out += 1
            else:
                sampled.append(pod)
    return tuple(sampled), left_out


def _new_replica_sets(found: Found) -> list[str]:
    """Names of the ReplicaSets of the released image that have Pods, or are the newest."""
    if found.deployment is None:
        return []
    uid, wanted = found.deployment["metadata"]["uid"], dict.fromkeys(found.watched.containers, found.watched.image)
    own = [one for one in found.replica_sets if controller_of(one).get("uid") == uid]
    newest = max(map(revision_of, own), default=0)
    return sorted(
        str(one["metadata"]["name"])
        for one in own
        if wanted.items() <= images_of(template_of(one)).items()
        and (one["spec"].get("replicas") or (one.get("status") or {}).get("replicas") or revision_of(one) == newest)
    )


def _new_pods(found: Found) -> list[Document]:
    names = set(_new_replica_sets(found))
    return [pod for pod in lasting_pods(found.pods) if controller_of(pod).get("name") in names]


def _pod(watched: Watched, pod: Document, room: int) -> PodLook:
    metadata = pod["metadata"]
    # What the release changed comes first, where a Pod has too many containers.
    statuses = sorted((one for _, one in containers_of(pod)), key=lambda one: one["name"] not in watched.containers)
    return PodLook(
        key=key_of(str(metadata["uid"])),
        name=str(metadata["name"])[:_LONGEST_NAME],
        deployment=watched.deployment,
        node=str((pod.get("spec") or {}).get("nodeName") or ""),
        containers=tuple(_container(one, watched) for one in statuses[: min(room, _MOST_OF_A_POD)]),
    )


def _container(one: Document, watched: Watched) -> ContainerLook:
    state, last = one.get("state") or {}, (one.get("lastState") or {}).get("terminated") or {}
    end = state.get("terminated") or last
    code = end.get("exitCode")
    return ContainerLook(
        container=str(one["name"]),
        released=one["name"] in watched.containers,
        restarts=max(0, int(one.get("restartCount") or 0)),
        ready=bool(one.get("ready")),
        begun=begun(one),
        waiting=cut((state.get("waiting") or {}).get("reason") or "", _LONGEST_REASON),
        ended=cut(end.get("reason") or ("Ended" if end else ""), _LONGEST_REASON),
        exit_code=None if code is None else int(code),
    )


def _deployment(found: Found) -> DeploymentLook:
    if found.deployment is None:
        return DeploymentLook(name=found.watched.deployment, there=False)
    spec, status = found.deployment.get("spec") or {}, found.deployment.get("status") or {}
    replicas = spec.get("replicas")
    new = _new_pods(found)
    return DeploymentLook(
        name=found.watched.deployment,
        wanted=1 if replicas is None else max(0, int(replicas)),
        unavailable=max(0, int(status.get("unavailableReplicas") or 0)),
        new_pods=len(new),
        new_ready=sum(map(is_ready, new)),
    )


def _events(found: Sequence[Found], events: Iterable[Document]) -> tuple[EventLook, ...]:
    """Those about our Deployments; of too many, some of each reason."""
    whose = {name: one.watched.deployment for one in found for name in _names_of(one)}
    looks: dict[tuple[str, str], list[EventLook]] = defaultdict(list)
    for event in events:
        about = str((event.get("involvedObject") or {}).get("name") or "")
        if event.get("type") != "Warning" or about not in whose:
            continue
        count = int((event.get("series") or {}).get("count") or event.get("count") or 1)
        look = EventLook(
            key=key_of(str(event["metadata"]["uid"])),
            count=max(1, count),
            reason=cut(event.get("reason") or "?", _LONGEST_REASON),
            deployment=whose[about],
            message=cut(event.get("message") or "", _LONGEST_MESSAGE),
        )
        looks[look.deployment, look.reason].append(look)
    ranked = [
        (rank, one)
        for same in looks.values()
        for rank, one in enumerate(sorted(same, key=lambda one: (-one.count, one.key)))
    ]
    return tuple(one for _, one in sorted(ranked, key=lambda pair: (pair[0], pair[1].key))[:MOST_EVENTS])


def _names_of(found: Found) -> set[str]:
    """What an Event about a Deployment may be about."""
    return {found.watched.deployment, *(str(one["metadata"]["name"]) for one in (*found.replica_sets, *found.pods))}
