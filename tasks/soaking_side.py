"""Watching the new side while a share of the traffic soaks: no container of it ends, enough of its Pods are ready, and it is as the release made it."""

from __future__ import annotations

from core.errors import PermanentError, TemporaryError
from core.fence import Document
from core.patience import Patience
from core.pod_trouble import with_log
from core.release_plan import images_of, template_of
from core.rollout_change import ForeignChangeError
from core.rollout_status import rollout_status, written_rollout
from core.stability import first_end, restarts_by_container
from tasks.kept_size import require_size
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.rollout_pods import list_pods, log_before_end

# A Pod may be replaced (a node is drained), or miss a probe, for so long; a container that ends may not.
MOMENT = 30.0
# For so long an API server that is away is waited for.
_UNSEEN_SECONDS = 60.0
_UNSEEN, _TOO_FEW = "unseen", "too few"
# Whatever of the Deployment is not as the release made it.
_THEIRS = {"foreign-change", "gone", "zero-replicas"}


class SideFailedError(PermanentError):
    """The new side did not stay well."""


class SoakingSide:
    """The Deployment of a side, and its Pods, from before it gets a share until it has soaked: two requests a look."""

    def __init__(self, client: KubernetesClient, namespace: str, name: str, *, least: int) -> None:
        """Given a side that is filled, begin. `least`: how many replicas it was given."""
        self._client, self._namespace, self._name, self._least = client, namespace, name, least
        self._path = find_kind(client, "Deployment").path(namespace, name)
        written = client.get(self._path)
        (container, image), *_ = images_of(template_of(written)).items()
        self._written = written_rollout(written, container, image)
        self._restarts = restarts_by_container(list_pods(client, namespace, written))
        self._patience = Patience()
        self._reached, self.available = least, least

    def look(self, now: float) -> bool:
        """Look at it, by a clock that only goes forward; return whether all is well, False when it is to be looked at again.

        Raise SideFailedError when a container ended or too few Pods were ready for longer than a moment, ForeignChangeError when somebody else changed it,
        TemporaryError when the API server stays away.
        """
        try:
            few = self._seen()
        except TemporaryError:
            self._patience.look([_UNSEEN], now)
            if self._patience.stood(_UNSEEN, now) >= _UNSEEN_SECONDS:
                raise
            return False
        self._patience.look([_TOO_FEW] if few else [], now)
        if self._patience.stood(_TOO_FEW, now) >= MOMENT:
            raise SideFailedError("keep the new side ready", self._name, f"for {MOMENT:.0f} s: {few}")
        return not few

    def _seen(self) -> str:
        """What keeps it from having enough ready Pods; "" when nothing does."""
        deployment = self._deployment()
        status = rollout_status(deployment, self._name, self._written)
        if deployment is None or status.cause in _THEIRS:
            raise ForeignChangeError("keep the new side", self._name, status.sentence, "Find out who changed it")
        self.available = require_size(self._client, self._namespace, deployment, self._least)
        pods = list_pods(self._client, self._namespace, deployment)
        if ended := first_end(self._restarts, pods):
            log = log_before_end(self._client, self._namespace, ended)
            raise SideFailedError("keep the new side ready", self._name, with_log(ended, log))
        # An autoscaler may ask for more meanwhile: those have their time, and stay once they were there.
        wanted = int(deployment["spec"].get("replicas", 1))
        self._reached = min(wanted, max(self._reached, self.available))
        if status.state == "complete" or self.available >= self._reached:
            return ""
        return status.sentence

    def _deployment(self) -> Document | None:
        try:
            return self._client.get(self._path)
        except MissingError:
            return None
