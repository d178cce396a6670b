"""Watching the Pods of a rollout that is complete for a while: readiness must not flap."""

import time
from collections.abc import Callable

from core.errors import TemporaryError
from core.fence import Document
from core.rollout_status import OBSERVED_LATER, Written, rollout_status, written_rollout
from core.stability import Standings, flapping, standings
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.rollout import LOOK_SECONDS, RolloutFailedError
from tasks.rollout_pods import new_pods, selector_of

_PAUSE = 0.5
# For so long after its end, an API server that is away is waited for, and a controller that has not seen a change yet: without a last look, nobody knows.
_LAST_LOOK_SECONDS = 60.0
_FLAPS = "Look at the Pods' logs and probes; minReadySeconds in the Deployment makes Kubernetes itself wait"


def observe_stability(
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
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> str:
    """Given a Deployment whose rollout is complete, watch its new Pods for so many seconds, and return in a sentence how they stood.

    Raise RolloutFailedError when one that was ready is not any more or was started again, when the Deployment is not ours any more, or when it is not
    complete at the end; TemporaryError when it could not be looked at at the end.
    """
    settling = _Settling(client, namespace, name, written_rollout(written, container, image), still_ours)
    ends = clock() + seconds
    while True:
        try:
            known = settling.look(last=clock() >= ends + _LAST_LOOK_SECONDS)
            if known and clock() >= ends:
                break
            settling.watch(min(LOOK_SECONDS, max(1.0, ends - clock())))
        except TemporaryError as error:
            if clock() >= ends + _LAST_LOOK_SECONDS:
                raise
            on_change(f"it cannot be looked at: {error.found}")
            sleep(_PAUSE)
    told = f"{settling.ready} new Pods stayed ready for {seconds:.0f} s without a restart"
    on_change(told)
    return told


class _Settling:
    """The new Pods, from look to look."""

    def __init__(
        self,
        client: KubernetesClient,
        namespace: str,
        name: str,
        written: Written,
        still_ours: Callable[[], None],
    ) -> None:
        self._client, self._namespace, self._name = client, namespace, name
        self._written, self._still_ours = written, still_ours
        self._before: Standings = {}
        self._wanted: int | None = None
        self._pods_path = find_kind(client, "Pod").path(namespace)
        self._selector, self._version, self.ready = "", "", 0

    def look(self, *, last: bool) -> bool:
        """Read Deployment and Pods anew; return whether the Deployment's numbers are of what it wants now. Raise RolloutFailedError when it is not well, or (last)
        they are not."""
        self._still_ours()
        deployment = self._deployment()
        status = rollout_status(deployment, self._name, self._written)
        if deployment is None or status.state == "failed":
            raise self._failed(status.sentence)
        self._selector = selector_of(deployment)
        listed = self._client.get(self._pods_path, labelSelector=self._selector)
        self._version = str(listed["metadata"]["resourceVersion"])
        pods = new_pods(self._client, self._namespace, deployment, listed.get("items") or (), self._written)
        # A Pod tells more than the Deployment's numbers, which follow it.
        self._check(pods)
        wanted = int(deployment["spec"].get("replicas") or 1)
        self._wanted = wanted if self._wanted is None else self._wanted
        # An HPA may ask for more meanwhile: those that were there must stay ready, and the new ones have their time.
        grows = wanted > self._wanted
        # It asks for fewer, somebody annotates: until its controller has looked the numbers are those of before, and no sign of anything.
        known = grows or status.sentence != OBSERVED_LATER
        if status.state != "complete" and not grows and (known or last):
            raise self._failed(f"not complete any more: {status.sentence}")
        self._before = standings(self._before, pods)
        self.ready = len([pod for pod in pods if pod["metadata"]["uid"] in self._before])
        return known

    def watch(self, seconds: float) -> None:
        """Look at each change of the Pods for so many seconds."""
        watched = self._client.watch(self._pods_path, self._version, seconds=seconds, labelSelector=self._selector)
        for pod in watched:
            self._still_ours()
            self._check([] if pod.pop("deleted", False) else [pod])

    def _deployment(self) -> Document | None:
        try:
            return self._client.get(find_kind(self._client, "Deployment").path(self._namespace, self._name))
        except MissingError:
            return None

    def _check(self, pods: list[Document]) -> None:
        if flapped := flapping(self._before, pods):
            raise self._failed(flapped)

    def _failed(self, cause: str) -> RolloutFailedError:
        error = RolloutFailedError(
            "keep the new version ready", f"deployment {self._namespace}/{self._name}", cause, _FLAPS
        )
        error.cause, error.kind = error.found, "flaps"
        return error
