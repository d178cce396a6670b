"""Whether the Pods of a new version stay ready: a rollout is complete at the first moment in which all are, and one that flaps has such moments too."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.container_trouble import Document, containers_of, cut, restarts_of


@dataclass(frozen=True)
class Standing:
    """How one Pod stood: since when it was ready (the API server's time), and how often it had been restarted."""

    ready_since: str
    restarts: int


Standings = dict[str, Standing]


def flapping(before: Mapping[str, Standing], pods: Iterable[Document]) -> str:
    """Given how Pods stood, by uid, and the Pods as they are, return in a sentence what flapped; "" when nothing did.

    A Pod that is gone or on its way out is none: an HPA and a drained node end Pods too, and whether enough are left is the rollout's own verdict.
    """
    return next(filter(None, (_of_pod(before.get(pod["metadata"]["uid"]), pod) for pod in pods)), "")


def standings(before: Mapping[str, Standing], pods: Iterable[Document]) -> Standings:
    """How Pods stand, by uid: as they were first seen ready."""
    now = {
        pod["metadata"]["uid"]: Standing(str(condition.get("lastTransitionTime", "")), restarts_of(pod))
        for pod in pods
        if (condition := _ready(pod)).get("status") == "True"
    }
    return {**now, **before}


def _of_pod(before: Standing | None, pod: Document) -> str:
    if before is None or pod["metadata"].get("deletionTimestamp"):
        return ""
    name, ready = pod["metadata"]["name"], _ready(pod)
    if restarts_of(pod) > before.restarts:
        return f"readiness flaps: Pod {name} was ready, and a container of it was started again{_last_end(pod)}"
    if ready.get("status") != "True":
        words = cut(ready.get("message") or ready.get("reason") or "")
        return f"readiness flaps: Pod {name} was ready and is not any more ({words})"
    if str(ready.get("lastTransitionTime", "")) != before.ready_since:
        # It came and went between two looks.
        return f"readiness flaps: Pod {name} was ready, was not, and is again"
    return ""


def _last_end(pod: Document) -> str:
    ends = [((one.get("lastState") or {}).get("terminated") or {}) for _, one in containers_of(pod)]
    last = max((end for end in ends if end), key=lambda end: str(end.get("finishedAt", "")), default=None)
    return f" (exit code {last.get('exitCode')}, {last.get('reason', '')})" if last else ""


def _ready(pod: Document) -> Document:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == "Ready"), {})
