"""The node of the small Kubernetes API of the tests: Pods come, get ready, or fail as the test says of their images."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tests.fix_kubernetes_objects import now

if TYPE_CHECKING:
    from tests.fix_kubernetes import KubernetesApi

Document = dict[str, Any]
# pull: the image is not there. crash: it ends at once. unready: its probe never passes. unschedulable: no node has room. config: a Secret that it names is missing.
# flaps: it is ready each other time that one looks. held: it stays in creation. restarted: it ended once, and is ready again.
How = Literal["good", "pull", "crash", "unready", "unschedulable", "config", "flaps", "held", "restarted"]
_WAITING = {
    "crash": ("CrashLoopBackOff", "back-off 10s restarting failed container={name} pod={pod}"),
    "config": ("CreateContainerConfigError", 'secret "missing" not found'),
    "held": ("ContainerCreating", ""),
}
_PULL = 'rpc error: code = NotFound desc = failed to pull and unpack image "{image}": failed to resolve reference "{image}": {image}: not found'
_EVENTS = {
    "pull": ("Failed", 'Failed to pull image "{image}": ' + _PULL),
    "crash": ("BackOff", "Back-off restarting failed container"),
    "unready": ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),
    "unschedulable": ("FailedScheduling", "0/1 nodes are available: 1 Insufficient cpu."),
    "config": ("Failed", 'Error: secret "missing" not found'),
}


@dataclass
class _Marked:
    part: str
    how: How
    log: str


class Kubelet:
    """Moves the Pods of ReplicaSets along, a step at a time."""

    def __init__(self, api: "KubernetesApi", *, ready_rounds: int) -> None:
        self._api, self._ready_rounds = api, ready_rounds
        self._rounds: dict[str, int] = {}
        # How a Pod (uid) ended up that does not change any more.
        self._settled: dict[str, str] = {}
        self._marked: list[_Marked] = []
        self._addresses = 0

    def mark(self, part: str, how: How, log: str = "") -> None:
        """Say how Pods fare whose image's name contains this, or that have this name, and what they log; the last word counts."""
        self._marked.insert(0, _Marked(part, how, log))

    def step(self) -> bool:
        """Move each Pod; return whether any is still under way."""
        moving = False
        for pod in self._api.select("v1", "pods", "", {}):
            if any(owner["kind"] == "ReplicaSet" for owner in pod["metadata"].get("ownerReferences") or ()):
                moving |= self._move(pod)
        return moving

    def _move(self, pod: Document) -> bool:
        metadata = pod["metadata"]
        rounds = self._rounds[metadata["uid"]] = self._rounds.get(metadata["uid"], 0) + 1
        marked = self._marked_of(pod)
        how = marked.how if marked else "good"
        if marked and marked.log:
            self._api.logs.setdefault((metadata["namespace"], metadata["name"]), marked.log)
        if self._settled.get(metadata["uid"]) == how:
            return False
        address = (pod.get("status") or {}).get("podIP") or self._next_address()
        status = status_of(pod, how, rounds, self._ready_rounds, address)
        self._api.set_status("v1", "pods", metadata["namespace"], metadata["name"], **status)
        if how in _EVENTS:
            self._tell(pod, how)
        if how != "flaps" and rounds > self._ready_rounds + 3:
            self._settled[metadata["uid"]] = how
        return True

    def _marked_of(self, pod: Document) -> _Marked | None:
        images = [container["image"] for container in pod["spec"]["containers"]]
        name = pod["metadata"]["name"]
        return next((one for one in self._marked if one.part == name or any(one.part in each for each in images)), None)

    def _next_address(self) -> str:
        self._addresses += 1
        return f"10.1.{self._addresses // 250}.{self._addresses % 250 + 1}"

    def _tell(self, pod: Document, how: str) -> None:
        """An Event, once a Pod."""
        metadata, (reason, message) = pod["metadata"], _EVENTS[how]
        name = f"{metadata['name']}.{reason.lower()}"
        if ("v1", "events", metadata["namespace"], name) in self._api.objects:
            return
        kept = ("name", "namespace", "uid")
        document = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name},
            "involvedObject": {"kind": "Pod", **{key: metadata[key] for key in kept}},
            "type": "Warning",
            "reason": reason,
            "message": message.format(image=pod["spec"]["containers"][0]["image"]),
            "count": 1,
            "firstTimestamp": now(),
            "lastTimestamp": now(),
        }
        self._api.create("v1", "events", metadata["namespace"], document, manager="kubelet")


def is_ready(pod: Document) -> bool:
    """Whether a Pod's condition Ready holds."""
    return any(one["type"] == "Ready" and one["status"] == "True" for one in (pod.get("status") or {}).get("conditions", ()))  # fmt: skip


def status_of(pod: Document, how: str, rounds: int, ready_rounds: int, address: str) -> Document:
    """A Pod's status after so many steps."""
    before = {one["type"]: one for one in (pod.get("status") or {}).get("conditions", ())}
    if how == "unschedulable":
        found = {"PodScheduled": ("False", "Unschedulable", "0/1 nodes are available: 1 Insufficient cpu.")}
        return {"phase": "Pending", "conditions": _conditions(found, before)}
    ready = rounds > ready_rounds and (how in {"good", "restarted"} or (how == "flaps" and rounds % 2 == 0))
    unready = ("False", "ContainersNotReady", f"containers with unready status: [{_first(pod)['name']}]")
    now_ready = ("True", "", "") if ready else unready
    found = {"PodScheduled": ("True", "", ""), "Initialized": ("True", "", ""), "ContainersReady": now_ready, "Ready": now_ready}  # fmt: skip
    statuses = [_container_status(pod, container, how, rounds, ready) for container in pod["spec"]["containers"]]
    running = any("running" in one["state"] for one in statuses) or how == "crash"
    return {
        "phase": "Running" if running else "Pending",
        "podIP": address,
        "hostIP": "10.0.0.1",
        "startTime": pod["metadata"]["creationTimestamp"],
        "conditions": _conditions(found, before),
        "containerStatuses": statuses,
    }


def _container_status(pod: Document, container: Document, how: str, rounds: int, ready: bool) -> Document:
    image, name = container["image"], container["name"]
    state: Document = {"running": {"startedAt": pod["metadata"]["creationTimestamp"]}}
    last: Document = {}
    if rounds == 1 and how != "pull":
        state = {"waiting": {"reason": "ContainerCreating"}}
    elif how == "pull":
        reason, message = ("ErrImagePull", _PULL) if rounds <= 2 else ("ImagePullBackOff", 'Back-off pulling image "{image}"')  # fmt: skip
        state = {"waiting": {"reason": reason, "message": message.format(image=image)}}
    elif how in _WAITING:
        reason, message = _WAITING[how]
        state = {"waiting": {"reason": reason, "message": message.format(name=name, pod=pod["metadata"]["name"])}}
        if how == "crash":
            last = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": pod["metadata"]["creationTimestamp"]}}  # fmt: skip
    elif how == "restarted":
        last = {"terminated": {"exitCode": 3, "reason": "Error", "finishedAt": now()}}
    running = "running" in state
    identity = f"{image.partition('@')[0]}@{image.partition('@')[2]}" if "@" in image else ""
    return {
        "name": name,
        "image": image,
        "imageID": identity if running or how == "crash" else "",
        "ready": ready,
        "started": running,
        "restartCount": 0 if not last else 1 if how == "restarted" else 2,
        "state": state,
        "lastState": last,
    }


def _conditions(found: dict[str, tuple[str, str, str]], before: dict[str, Document]) -> list[Document]:
    made = []
    for kind, (status, reason, message) in found.items():
        was = before.get(kind) or {}
        since = was["lastTransitionTime"] if was.get("status") == status else now()
        words = {key: value for key, value in (("reason", reason), ("message", message)) if value}
        made.append({"type": kind, "status": status, **words, "lastProbeTime": None, "lastTransitionTime": since})
    return made


def _first(pod: Document) -> Document:
    container: Document = pod["spec"]["containers"][0]
    return container
