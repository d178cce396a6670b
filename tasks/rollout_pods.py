"""Looking at the Pods of a new version: which they are, what is wrong with them, and the words that only Events and logs have."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from core.container_trouble import Graces, restarts_of
from core.errors import NightshiftError
from core.fence import Document
from core.patience import Patience
from core.pod_trouble import Trouble, find_troubles, newest_replica_set, pods_of, with_log
from core.rollout_status import Written
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind

# Events are read of a few Pods only, and once a trouble has stood for so many seconds: most pass by themselves. Twenty Pods of one version fail alike.
_WORDS_AFTER, _WORDS_OF = 2.0, 2
# So the kubelet says, as if it were the log, that it has removed it (pkg/kubelet/kuberuntime/kuberuntime_manager.go, GetContainerLogs).
_NO_LOG = "unable to retrieve container logs for "
_LOG_LINES, _LOG_BYTES, _LOG_SECONDS = 20, 65536, 10.0


class NewPods:
    """The new version's Pods, over the looks of one rollout."""

    def __init__(self, client: KubernetesClient, namespace: str, written: Written, graces: Graces) -> None:
        self._client, self._namespace, self._written, self._graces = client, namespace, written, graces
        self._first_restarts: dict[str, int] = {}
        self._patience = Patience()
        self._logs: dict[str, tuple[str, list[str]]] = {}
        self.troubles: list[Trouble] = []
        self.drains = False
        self._looked = float("-inf")

    def look(self, deployment: Document, now: float, *, words_after: float = _WORDS_AFTER) -> None:
        """Given the Deployment as it is, look at its Pods. `troubles`: what is wrong, worst first; `drains`: whether Pods of it are on their way out."""
        pods = list_pods(self._client, self._namespace, deployment)
        self.drains = any(pod["metadata"].get("deletionTimestamp") for pod in pods)
        new = new_pods(self._client, self._namespace, deployment, pods, self._written)
        for pod in new:
            self._first_restarts.setdefault(pod["metadata"]["uid"], restarts_of(pod))
        found = find_troubles(new, {}, self._first_restarts, self._graces)
        self._patience.look((trouble.key for trouble in found), now)
        self._looked = now
        aged = [one.uid for one in found if one.grace == 0 or self._patience.stood(one.key, now) >= words_after]
        events = {uid: self._events_of(uid) for uid in list(dict.fromkeys(aged))[:_WORDS_OF]}
        # What an Event explains has the same key as before.
        self.troubles = find_troubles(new, events, self._first_restarts, self._graces)
        for trouble in [one for one in self.troubles if one.kind == "crash"][:_WORDS_OF]:
            self._keep_log(trouble)

    def final(self) -> Trouble | None:
        """The worst trouble that had stood for as long as it may when it was last seen, if there is one."""
        return next((trouble for trouble in self.troubles if self._is_final(trouble)), None)

    def _is_final(self, trouble: Trouble) -> bool:
        return trouble.grace is not None and self._patience.stood(trouble.key, self._looked) >= trouble.grace

    def explained(self, trouble: Trouble) -> str:
        """A trouble's sentence, with the end of the container's log where it tells more."""
        if trouble.kind == "crash":
            self._keep_log(trouble)
            return with_log(trouble, self._logs.get(trouble.key, ("", []))[1])
        return (
            with_log(trouble, log_of(self._client, self._namespace, trouble))
            if trouble.kind == "probe"
            else trouble.sentence
        )

    def _keep_log(self, trouble: Trouble) -> None:
        """Keep what a container said before it ended, once for each of its ends: the kubelet removes the log of the end before at the next one."""
        end, kept = self._logs.get(trouble.key, ("", []))
        if end == trouble.sentence and kept:
            return
        said = log_before_end(self._client, self._namespace, trouble) or kept
        self._logs[trouble.key] = (trouble.sentence, said)

    def _events_of(self, uid: str) -> list[Document]:
        path = find_kind(self._client, "Event").path(self._namespace)
        return _or_nothing(lambda: self._client.list(path, fieldSelector=f"involvedObject.uid={uid}"))


def log_before_end(client: KubernetesClient, namespace: str, trouble: Trouble) -> list[str]:
    """The end of what a container said before it last ended; what it says now, where the kubelet has removed that."""
    return log_of(client, namespace, trouble, previous="true") or log_of(client, namespace, trouble)


def log_of(client: KubernetesClient, namespace: str, trouble: Trouble, **more: str) -> list[str]:
    """The end of a container's log; nothing when it cannot be read."""
    path = find_kind(client, "Pod").path(namespace, trouble.pod, "log")
    chosen = {"container": trouble.container, "tailLines": str(_LOG_LINES), "limitBytes": str(_LOG_BYTES), **more}
    lines = _or_nothing(lambda: client.lines(path, seconds=_LOG_SECONDS, **chosen))
    return [line for line in lines if line.strip() and not line.startswith(_NO_LOG)]


def list_pods(client: KubernetesClient, namespace: str, deployment: Document) -> list[Document]:
    """The Pods that a Deployment's selector matches, of all of its ReplicaSets."""
    return list(client.list(find_kind(client, "Pod").path(namespace), labelSelector=selector_of(deployment)))


def new_pods(
    client: KubernetesClient, namespace: str, deployment: Document, pods: Iterable[Document], written: Written
) -> list[Document]:
    """Those Pods that are of the newest ReplicaSet, if the controller has made that for what was written; none when it has not."""
    path = find_kind(client, "ReplicaSet").path(namespace)
    sets = client.list(path, labelSelector=selector_of(deployment))
    newest = newest_replica_set(deployment, sets, (written.container, written.image))
    return pods_of(newest, pods) if newest else []


def selector_of(deployment: Document) -> str:
    """A Deployment's selector as a query says it."""

    def terms(selector: Document) -> Iterator[str]:
        yield from (f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items()))
        for one in selector.get("matchExpressions") or ():
            key, values = one["key"], ",".join(one.get("values") or ())
            match one["operator"]:
                case "In":
                    yield f"{key} in ({values})"
                case "NotIn":
                    yield f"{key} notin ({values})"
                case "Exists":
                    yield key
                case _:
                    yield f"!{key}"

    return ",".join(terms((deployment.get("spec") or {}).get("selector") or {}))


def _or_nothing(read: Callable[[], Iterable[Any]]) -> list[Any]:
    """What is read, or nothing: Events and logs only explain, and a role may lack the right to them."""
    try:
        return list(read())
    except NightshiftError:
        return []
