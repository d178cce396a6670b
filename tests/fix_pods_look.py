"""Documents of a Deployment, its ReplicaSets and Pods as the API server gives them, and looks made of them."""

from typing import Any

from core.pods_look import ContainerLook, Found, PodLook, PodsLook, Watched, key_of, look_of

Document = dict[str, Any]
IMAGE, OLD_IMAGE = "registry.example.com/api@sha256:new", "registry.example.com/api@sha256:old"
API = Watched(deployment="api", containers=("api",), image=IMAGE)


def deployment(name: str = "api", *, replicas: int = 3, unavailable: int = 0) -> Document:
    return {
        "metadata": {"name": name, "uid": f"uid-{name}"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}},
        "status": {"unavailableReplicas": unavailable} if unavailable else {},
    }


def replica_set(name: str, *, image: str = IMAGE, revision: int = 2, replicas: int = 3, of: str = "api") -> Document:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"app": of},
            "annotations": {"deployment.kubernetes.io/revision": str(revision)},
            "ownerReferences": [{"kind": "Deployment", "name": of, "uid": f"uid-{of}", "controller": True}],
        },
        "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": of, "image": image}]}}},
        "status": {"replicas": replicas},
    }


def status(
    name: str = "api",
    *,
    restarts: int = 0,
    ready: bool = True,
    waiting: str = "",
    ended: str = "",
    code: int = 1,
    at: str = "2026-11-26T10:00:00Z",
) -> Document:
    state: Document = {"waiting": {"reason": waiting}} if waiting else {"running": {}}
    ended = ended or ("Error" if waiting == "CrashLoopBackOff" else "")
    end = {"reason": ended, "exitCode": code, "finishedAt": at}
    last = {"lastState": {"terminated": end}} if ended else {}
    return {"name": name, "restartCount": restarts, "ready": ready and not waiting, "state": state, **last}


def pod(
    name: str,
    *statuses: Document,
    of: str = "api-7f",
    node: str = "node-1",
    ready: bool = True,
    deleted: bool = False,
    kind: str = "ReplicaSet",
) -> Document:
    listed = statuses or (status(),)
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "labels": {"app": of.rpartition("-")[0], "pod-template-hash": of.rpartition("-")[2]},
            "ownerReferences": [{"kind": kind, "name": of, "controller": True}],
            **({"deletionTimestamp": "2026-11-26T10:00:00Z"} if deleted else {}),
        },
        "spec": {"nodeName": node},
        "status": {
            "phase": "Running",
            "containerStatuses": list(listed),
            "conditions": [
                {"type": "Ready", "status": str(ready and all(one["ready"] for one in listed))},
            ],
        },
    }


def warning(about: str, reason: str, *, count: int = 1, message: str = "m", uid: str = "") -> Document:
    return {
        "metadata": {"name": f"{about}.1", "uid": uid or f"event-{about}-{reason}"},
        "type": "Warning",
        "involvedObject": {"name": about},
        "reason": reason,
        "count": count,
        "message": message,
    }


def found(*pods: Document, **more: Any) -> Found:
    """The Deployment `api` with the ReplicaSet `api-7f` of the released image and these Pods."""
    sets = more.pop(
        "replica_sets", (replica_set("api-7f"), replica_set("api-6e", image=OLD_IMAGE, revision=1, replicas=0))
    )
    return Found(API, deployment(**more), sets, pods)


def look(*pods: Document, others: tuple[Document, ...] | None = (), old: tuple[str, ...] = (), **more: Any) -> PodsLook:
    """A look at such Pods, and at others beside them (None: not looked at)."""
    events = more.pop("events", ())
    return look_of([found(*pods, **more)], events, everyone=None if others is None else (*pods, *others), old=old)


def plain_look(*containers: tuple[str, int], **more: Any) -> PodsLook:
    """A look of (Pod, restarts), without documents: for many of them."""
    return PodsLook(
        pods=tuple(
            PodLook(
                key=key_of(name),
                name=name,
                deployment="api",
                node="node-1",
                containers=(
                    ContainerLook(container="api", released=True, restarts=restarts, ready=False, begun=True, **more),
                ),
            )
            for name, restarts in containers
        )
    )
