"""Whether the Pods of a new version stay ready: a rollout is complete at the first moment in which all are, and one that flaps has such moments too."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from core.container_trouble import Document, containers_of, cut, end_words, restarts_of
from core.pod_trouble import Trouble


@dataclass(frozen=True)
class Standing:
    """How one Pod stood: since when it was ready (the API server's time), and how often it had been restarted."""

    ready_since: str
    restarts: int


Standings = dict[str, Standing]
# (Pod's uid, container) → how often it was restarted.
Restarts = dict[tuple[str, str], int]


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


def restarts_by_container(pods: Iterable[Document]) -> Restarts:
    """How often each container of Pods was restarted."""
    return {
        (pod["metadata"]["uid"], str(one.get("name", ""))): int(one.get("restartCount") or 0)
        for pod in pods
        for _, one in containers_of(pod)
    }


def first_end(before: Restarts, pods: Iterable[Document]) -> Trouble | None:
    """Given how often containers had been restarted, and the Pods as they are, return the first that ended since; None when none did.

    A Pod that came since counts from its beginning. One that is on its way out, or was evicted, is none: its containers were ended by others.
    """
    for pod in pods:
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        if pod["metadata"].get("deletionTimestamp") or (pod.get("status") or {}).get("phase") == "Failed":
            continue
        for label, one in containers_of(pod):
            container = str(one.get("name", ""))
            ended = label == "container" and "terminated" in (one.get("state") or {})
            if ended or int(one.get("restartCount") or 0) > before.get((uid, container), 0):
                sentence = f"Pod {name}, {label} {container}: {end_words(one)}"
                return Trouble("crash", f"crash {uid} {container}", sentence, 0.0, name, container, uid)
    return None


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
