"""What keeps the Pods of a new version from becoming ready, in one sentence each, and for how long that must stand before nothing better is to be hoped for.

Of containers, core.container_trouble; here what concerns the Pod as a whole: the scheduler's words (condition PodScheduled, reason Unschedulable), readiness
gates, and which Pods are of the new version at all.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from core.container_trouble import Graces, Kind, container_troubles, containers_of, cut

Document = dict[str, Any]
Events = Mapping[str, Sequence[Document]]
# Of several troubles, the one that explains most is told: what nobody but a person can mend first.
_RANK: tuple[Kind, ...] = (
    "configuration", "image", "start", "crash", "creation", "mount", "unschedulable", "probe", "gate", "waiting",
)  # fmt: skip

_LONGEST_LINE, _LINES = 200, 5
# cluster-autoscaler (FAQ, "What events are emitted by CA?") and Karpenter (its list of events) announce on the Pod that a node is on its way.
_NODE_COMES = {"TriggeredScaleUp", "Nominated"}


@dataclass(frozen=True)
class Trouble:
    """What is wrong with one Pod (or with making Pods). `grace`: seconds until it is final; None: it never is by itself. `key`: the same for the same trouble."""

    kind: Kind
    key: str
    sentence: str
    grace: float | None
    pod: str = ""
    container: str = ""
    uid: str = ""

    @property
    def rank(self) -> int:
        """Troubles of a lower rank explain more."""
        return _RANK.index(self.kind)


def newest_replica_set(
    deployment: Document, replica_sets: Iterable[Document], template_image: tuple[str, str]
) -> Document | None:
    """Given a Deployment, ReplicaSets and (container, image) as written, return the ReplicaSet of what was written; None: the controller has not made it yet.

    It is the one of the highest revision that the Deployment controls (pkg/controller/deployment/util: FindNewReplicaSet, SetNewReplicaSetAnnotations).
    """
    uid = (deployment.get("metadata") or {}).get("uid")
    owned = [one for one in replica_sets if _controller_uid(one) == uid]
    newest = max(owned, key=revision_of, default=None)
    container, image = template_image
    specification = (((newest or {}).get("spec") or {}).get("template") or {}).get("spec") or {}
    everyone = [*(specification.get("containers") or ()), *(specification.get("initContainers") or ())]
    return newest if any(one.get("name") == container and one.get("image") == image for one in everyone) else None


def pods_of(replica_set: Document, pods: Iterable[Document]) -> list[Document]:
    """The Pods that a ReplicaSet controls and that nobody is ending."""
    uid = replica_set["metadata"]["uid"]
    return [pod for pod in pods if _controller_uid(pod) == uid and not pod["metadata"].get("deletionTimestamp")]


def find_troubles(
    pods: Iterable[Document],
    events: Events,
    first_restarts: Mapping[str, int],
    graces: Graces | None = None,
) -> list[Trouble]:
    """Given the new version's Pods, the Events of some of them by the Pod's uid, and each Pod's restarts when it was first seen, return what is wrong, worst first."""
    graces = graces or Graces()
    found = [
        trouble
        for pod in pods
        for trouble in _of_pod(pod, events.get(pod["metadata"]["uid"], ()), first_restarts, graces)
    ]
    return sorted(found, key=lambda trouble: trouble.rank)


def with_log(trouble: Trouble, lines: Iterable[str]) -> str:
    """Given a trouble and the lines of its container's log, return the sentence with the last few of them."""
    last = [line for line in (" ".join(raw.split()) for raw in lines) if line][-_LINES:]
    if not last:
        return trouble.sentence
    quoted = " | ".join(cut(line, _LONGEST_LINE) for line in last)
    return f"{trouble.sentence}; the end of its log: {quoted}"


def _of_pod(
    pod: Document, events: Sequence[Document], first_restarts: Mapping[str, int], graces: Graces
) -> Iterator[Trouble]:
    status, name, uid = pod.get("status") or {}, pod["metadata"]["name"], pod["metadata"]["uid"]

    def trouble(kind: Kind, words: str, grace: float | None, label: str = "", container: str = "") -> Trouble:
        where = f"Pod {name}, {label} {container}" if container else f"Pod {name}"
        # What keeps a Pod from beginning is known once an Event tells; it has stood since it was first waited for.
        key = f"{'mount' if kind == 'waiting' else kind} {uid} {container}"
        return Trouble(kind, key, f"{where}: {words}", grace, name, container, uid)

    scheduled = _condition(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
        coming = next((one for one in events if one.get("reason") in _NODE_COMES), None)
        more = f"; but a node may come: {cut(coming.get('message', ''))}" if coming else ""
        words = f"no node takes it (Unschedulable: {cut(scheduled.get('message', ''))}){more}"
        yield trouble("unschedulable", words, graces.node_comes if coming else graces.unschedulable)
        return
    if status.get("phase") == "Failed":
        # The ReplicaSet makes another one: an evicted Pod alone ends no release.
        yield trouble("waiting", f"it ended ({status.get('reason', 'Failed')}: {cut(status.get('message', ''))})", None)
        return
    troubled = False
    for label, one in containers_of(pod):
        for kind, words, allowed in container_troubles(one, pod, events, first_restarts.get(uid, 0), graces):
            troubled = True
            yield trouble(kind, words, allowed, label, str(one.get("name", "")))
    ready = _condition(pod, "Ready")
    if not troubled and ready.get("reason") == "ReadinessGatesNotReady":
        words = cut(ready.get("message", ""))
        yield trouble("gate", f"its containers are ready, its readiness gates are not: {words}", None)


def _condition(pod: Document, kind: str) -> Document:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == kind), {})


def controller_of(document: Document) -> Document:
    """The reference to an object's controller; empty when it has none."""
    owners = (document.get("metadata") or {}).get("ownerReferences") or ()
    return next((one for one in owners if one.get("controller")), {})


def _controller_uid(document: Document) -> str:
    return str(controller_of(document).get("uid", ""))


def revision_of(replica_set: Document) -> int:
    """The revision that the Deployment controller stamped on a ReplicaSet; 0 when it has none."""
    annotations = (replica_set.get("metadata") or {}).get("annotations") or {}
    stamped = str(annotations.get("deployment.kubernetes.io/revision", ""))
    return int(stamped) if stamped.isdigit() else 0
