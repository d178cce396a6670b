"""Whether others crash, too: what tells a new version that is bad from a node or a database that is."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from core.container_trouble import containers_of
from core.manifest import Record
from core.pod_health import is_ready, lasting_pods
from core.pod_trouble import controller_of

Document = dict[str, Any]

HELD_BACK = "CrashLoopBackOff"
MOST_NAMED = 10
# Who ended no longer ago than the newest end of all counts as crashing at the same time: as long as core.crash_loop looks back.
_LATELY = timedelta(minutes=15)


class Group(Record):
    """Some workloads: how many, how many of them crash, and the names of the first of those."""

    workloads: int = 0
    crashing: int = 0
    names: tuple[str, ...] = ()

    def but(self, known: Collection[str]) -> "Group":
        """The same without those that crash and are known to have crashed before."""
        left_out = len(set(self.names) & set(known))
        names = tuple(name for name in self.names if name not in known)
        return Group(workloads=self.workloads - left_out, crashing=self.crashing - left_out, names=names)

    @property
    def mostly_crashes(self) -> bool:
        """Whether half of them do."""
        return self.crashing > 0 and 2 * self.crashing >= self.workloads


class Elsewhere(Record):
    """The other workloads of the namespace. `beside`: only their Pods on the nodes where the new version's were restarted. `old_version`: the old version crashes, too.

    The old version still runs beside the new one after a blue-green release. Jobs are none of them: they may fail, and try again.
    """

    everywhere: Group = Group()
    beside: Group = Group()
    old_version: bool = False


def outside_cause(elsewhere: Elsewhere, before: Collection[str]) -> str:
    """Given the others, and who of them crashed when the watch began, return what speaks for a cause outside of the new version; "" when nothing does."""
    everywhere, beside = elsewhere.everywhere.but(before), elsewhere.beside.but(before)
    if elsewhere.old_version:
        return "the old version's own Pods crash as well"
    if everywhere.mostly_crashes:
        return (
            f"so do {everywhere.crashing} of {everywhere.workloads} other workloads ({', '.join(everywhere.names[:3])})"
        )
    if beside.mostly_crashes:
        return f"so do {beside.crashing} of {beside.workloads} other workloads on the same nodes ({', '.join(beside.names[:3])})"
    return ""


def elsewhere_of(
    everyone: Sequence[Document], ours: Collection[str], nodes: Collection[str], old: Collection[str]
) -> Elsewhere:
    """Given all Pods of a namespace, the uids of those that are of the release, the nodes to look at closely and the old version's Deployments, return the others."""
    newest = max((end for pod in everyone for end in _ends(pod)), default=None)
    groups: dict[str, list[Document]] = defaultdict(list)
    for pod in lasting_pods(everyone):
        is_other = str(pod["metadata"]["uid"]) not in ours and controller_of(pod).get("kind") != "Job"
        if is_other and any(begun(one) for _, one in containers_of(pod)):
            groups[_workload(pod)].append(pod)
    beside = {
        name: on_them
        for name, pods in groups.items()
        if (on_them := [pod for pod in pods if (pod.get("spec") or {}).get("nodeName") in nodes])
    }
    crashing = _crashing(groups, newest)
    return Elsewhere(
        everywhere=_group(groups, crashing),
        beside=_group(beside, _crashing(beside, newest)),
        old_version=any(name in old for name in crashing),
    )


def begun(one: Document) -> bool:
    """Given a container's status, return whether it ever ran."""
    state, last = one.get("state") or {}, one.get("lastState") or {}
    return bool(one.get("restartCount")) or "running" in state or "terminated" in {**state, **last}


def _group(groups: Mapping[str, Sequence[Document]], crashing: Sequence[str]) -> Group:
    return Group(workloads=len(groups), crashing=len(crashing), names=tuple(crashing[:MOST_NAMED]))


def _crashing(groups: Mapping[str, Sequence[Document]], newest: datetime | None) -> list[str]:
    """Those of which most Pods crash."""
    return sorted(name for name, pods in groups.items() if 2 * sum(_crashes(pod, newest) for pod in pods) > len(pods))


def _crashes(pod: Document, newest: datetime | None) -> bool:
    waiting = [((one.get("state") or {}).get("waiting") or {}).get("reason") for _, one in containers_of(pod)]
    # By the nodes' own clocks: ours may be another.
    lately = newest is not None and any(newest - end <= _LATELY for end in _ends(pod))
    return HELD_BACK in waiting or (lately and not is_ready(pod))


def _ends(pod: Document) -> list[datetime]:
    """When containers of a Pod last ended with an error."""
    ends = [
        (one.get(part) or {}).get("terminated") or {}
        for _, one in containers_of(pod)
        for part in ("state", "lastState")
    ]
    return [datetime.fromisoformat(end["finishedAt"]) for end in ends if end.get("exitCode") and end.get("finishedAt")]


def _workload(pod: Document) -> str:
    """What a Pod is one of: the Deployment that its ReplicaSet is of, else its controller, else itself."""
    owner = controller_of(pod)
    name = str(owner.get("name") or pod["metadata"]["name"])
    template = (pod["metadata"].get("labels") or {}).get("pod-template-hash")
    return name.removesuffix(f"-{template}") if owner.get("kind") == "ReplicaSet" and template else name
