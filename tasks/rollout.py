"""Waiting for a Deployment's rollout by list and watch, and failing as soon as it is known to, with the cause in one sentence."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from core.container_trouble import Graces, cut
from core.errors import PermanentError, TemporaryError
from core.fence import Document
from core.patience import Patience
from core.rollout_status import RolloutStatus, Written, is_observed, remember_stale, rollout_status, written_rollout
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.rollout_pods import NewPods

# Seconds between two looks at the Pods while the Deployment does not change. Its changes are watched; a Pod that cannot begin changes nothing in it.
LOOK_SECONDS = 3.0
# Pods come in bursts, each with a change of the Deployment: they are not looked at more often than this.
_BETWEEN_LOOKS = 1.0
# The list is read anew so often even when the watch seems to work: what was missed for any reason is seen then.
_RELIST_SECONDS = 60.0
_PAUSE = 0.5

_NEXT_STEPS = {
    "deadline": "Look at its Pods, and raise its progressDeadlineSeconds if they only need longer",
    "replica-failure": "Raise the namespace's quota or mend what refuses the Pods",
    "replica-set": "Raise the namespace's quota or mend what refuses the ReplicaSet",
    "paused": "Find out who paused it; kubectl rollout resume lets it go on",
    "zero-replicas": "Scale it up first",
    "foreign-change": "Find out who changes it (kubectl get --show-managed-fields tells) and release again",
    "gone": "Find out who deleted it",
    "image": "Push the image, or mend the registry and its credentials",
    "configuration": "Make the Secret or ConfigMap that it names",
    "start": "Mend the image's command or the container's settings",
    "crash": "Mend what the log tells",
    "mount": "Make what the volume names, or mend its storage",
    "unschedulable": "Free room, add nodes, or mend the Pod's requests and node selection",
    "probe": "Mend what the probe tells; a Pod that needs longer to begin says so by its startupProbe",
}


class RolloutFailedError(PermanentError):
    """A rollout will not come to a good end by itself. `cause`: why, in one sentence; `kind`: in a word (a key of the next steps: image, crash, paused, …)."""

    cause: str = ""
    kind: str = ""


class RolloutLateError(PermanentError):
    """A rollout was not complete in the time that it had. `cause`: how it stood."""

    cause: str = ""


@dataclass(frozen=True)
class RolloutEnd:
    """A rollout that is complete: kubectl's sentence, after how many seconds, and with how many replicas."""

    sentence: str
    seconds: float
    replicas: int


@dataclass(frozen=True)
class Unseen:
    """The Deployment could not be looked at."""

    error: str


def wait_for_rollout(
    client: KubernetesClient,
    namespace: str,
    name: str,
    *,
    written: Document,
    container: str,
    image: str,
    seconds: float,
    on_change: Callable[[str], None],
    still_ours: Callable[[], None],
    graces: Graces | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> RolloutEnd:
    """Given a Deployment as it was answered to our write of an image, wait until its rollout is complete, and return how it ended.

    `on_change` gets each new sentence on how it stands; `still_ours` is called at each look, every few seconds, and may raise. An API server that is away, a
    broken watch, 410 and 429 are waited out. Raise RolloutFailedError as soon as it is known to fail, RolloutLateError after so many seconds.
    """
    began = clock()
    ours = written_rollout(written, container, image)
    waiting = _Waiting(NewPods(client, namespace, ours, graces or Graces()), namespace, name, ours, on_change)
    for seen in deployment_rounds(client, namespace, name, clock=clock, sleep=sleep):
        still_ours()
        now = clock()
        if status := waiting.look(seen, now):
            replicas = int(((seen if isinstance(seen, dict) else {}).get("status") or {}).get("availableReplicas") or 0)
            return RolloutEnd(status.sentence, now - began, replicas)
        if now - began >= seconds:
            raise waiting.too_late(seconds)
    raise AssertionError("rounds have no end")


class _Waiting:
    """One rollout as it was last seen."""

    def __init__(
        self, pods: NewPods, namespace: str, name: str, written: Written, on_change: Callable[[str], None]
    ) -> None:
        self._on, self._name = f"deployment {namespace}/{name}", name
        self._pods, self._written, self._on_change = pods, written, on_change
        self._patience = Patience()
        self._told: dict[str, str] = {}
        self._looked = float("-inf")
        self._status: RolloutStatus | None = None
        self._error = ""

    def look(self, seen: Document | Unseen | None, now: float) -> RolloutStatus | None:
        """Given the Deployment as it was just seen, return the status when it is complete, None when it goes on. Raise RolloutFailedError when it failed."""
        if isinstance(seen, Unseen):
            self._unseen(seen.error)
            return None
        if seen:
            self._written = remember_stale(self._written, seen)
        status = self._status = rollout_status(seen, self._name, self._written)
        self._error = ""
        self._tell("status", status.sentence)
        if status.state == "complete":
            return status
        if status.state == "failed" and not status.grace and status.cause != "deadline":
            raise self._failed(status.cause, status.sentence)
        if seen and is_observed(seen, self._written) and now - self._looked >= _BETWEEN_LOOKS:
            self._looked = now
            self._look_at_pods(seen, now)
        self._judge(seen or {}, status, now)
        return None

    def too_late(self, seconds: float) -> RolloutLateError:
        """The error for a rollout that had its time."""
        worst = self._pods.troubles[0].sentence if self._pods.troubles else ""
        last = self._status.sentence if self._status else "it was never seen"
        cause = "; ".join(filter(None, (last, worst, self._error)))
        error = RolloutLateError(
            "roll out", self._on, f"not complete after {seconds:.0f} s: {cause}", _NEXT_STEPS["deadline"]
        )
        error.cause = cause
        return error

    def _look_at_pods(self, deployment: Document, now: float, **more: float) -> None:
        try:
            self._pods.look(deployment, now, **more)
        except TemporaryError as error:
            self._unseen(str(error))

    def _judge(self, deployment: Document, status: RolloutStatus, now: float) -> None:
        """Raise RolloutFailedError for what has stood for as long as it may; tell what is wrong so far."""
        # While Pods drain, what they hold of a quota comes free.
        waits = status.cause == "replica-failure" and self._pods.drains
        self._patience.look([status.cause] if status.state == "failed" and not waits else [], now)
        if (worst := next(iter(self._pods.troubles), None)) and worst.kind != "waiting":
            self._tell("trouble", worst.sentence)
        if final := self._pods.final():
            raise self._failed(final.kind, self._pods.explained(final))
        if status.state != "failed" or waits or self._patience.stood(status.cause, now) < status.grace:
            return
        if status.cause == "deadline":
            self._look_at_pods(deployment, now, words_after=0.0)
        troubles = self._pods.troubles if status.cause == "deadline" else []
        raise self._failed(status.cause, "; ".join([status.sentence, *map(self._pods.explained, troubles[:1])]))

    def _failed(self, kind: str, cause: str) -> RolloutFailedError:
        error = RolloutFailedError("roll out", self._on, cause, _NEXT_STEPS.get(kind, ""))
        error.cause, error.kind = error.found, kind
        return error

    def _unseen(self, error: str) -> None:
        self._error = f"it cannot be looked at: {cut(error)}"
        self._tell("error", self._error)

    def _tell(self, topic: str, sentence: str) -> None:
        if self._told.get(topic) != sentence:
            self._told[topic] = sentence
            self._on_change(cut(sentence))


def deployment_rounds(
    client: KubernetesClient,
    namespace: str,
    name: str,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Iterator[Document | Unseen | None]:
    """A Deployment (None: it is not there) as it is now, at each change, and at least every few seconds; without end. Unseen: the API server could not be asked."""
    collection, chosen = find_kind(client, "Deployment").path(namespace), {"fieldSelector": f"metadata.name={name}"}
    while True:
        try:
            listed = client.get(collection, **chosen)
            current: Document | None = next(iter(listed.get("items") or ()), None)
            version = str((listed.get("metadata") or {}).get("resourceVersion") or "")
            yield current
            until = clock() + _RELIST_SECONDS
            while clock() < until:
                begun = clock()
                for document in client.watch(collection, version, seconds=LOOK_SECONDS, **chosen):
                    version = str(document["metadata"]["resourceVersion"])
                    current = None if document.pop("deleted", False) else document
                    yield current
                # An API server that ends each watch at once is not flooded.
                sleep(max(0.0, _PAUSE - (clock() - begun)))
                yield current
        except TemporaryError as error:
            yield Unseen(str(error))
            sleep(_PAUSE)
