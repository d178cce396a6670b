"""Blue-green releases of `stage`: its settings for each kind of traffic, and something done right when a share of the traffic was written."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.fence import Document
from tasks.kubernetes_kinds import find_kind
from tasks.traffic import Traffic
from tests.fix_alb import ACTION, Alb, Ground, forward
from tests.fix_kubernetes import KubernetesApi
from tests.fix_kubernetes_controllers import Controllers
from tests.fix_object_store import REGION, S3Server
from tests.fix_release import Stage
from tests.waiting import wait_until

ROUTES = "gateway.networking.k8s.io/v1"


def blue_green(stage: Stage, **traffic: Any) -> None:
    """Have the environment release by two colours; `traffic`: its table, by the Service's selector unless it says otherwise."""
    settings = {"kind": "service", "name": "hello", "soak_seconds": 0, "effective_seconds": 60, **traffic}
    stage.settings["release"] |= {"strategy": "blue-green", "drain_seconds": 0, "traffic": settings}


def steer(api: KubernetesApi) -> Controllers:
    """The controllers that `stage` runs."""
    assert api.controllers is not None
    return api.controllers


class Route:
    """The HTTPRoute of `stage`. `written`: Service → weight as it was after each write that changed it.

    `merge`: changes the route as somebody else would. `read`: without a request where that can be, so that what a test does at a write comes before the controllers.
    """

    def __init__(
        self, stage: Stage, merge: Callable[[Document], object], read: Callable[[], Document] | None = None
    ) -> None:
        self.stage, self._merge = stage, merge
        self.path = find_kind(stage.client, "HTTPRoute").path(stage.namespace, "hello")
        self._read = read or (lambda: stage.client.get(self.path))
        self.written: list[dict[str, int]] = []
        self._then: dict[tuple[str, int], list[Callable[[], object]]] = {}

    def when(self, service: str, weight: int, action: Callable[[], object]) -> None:
        """Do something, once, right when a Service was given this weight, before the release sees the answer."""
        self._then.setdefault((service, weight), []).append(action)

    def shares(self, service: str) -> list[int]:
        """The weights that a Service was given, one after the other."""
        return [one.get(service, 0) for one in self.written]

    def weights(self) -> dict[str, int]:
        """Service → weight, as it is."""
        route = self._read()
        return {one["name"]: one.get("weight", 1) for one in route["spec"]["rules"][0]["backendRefs"]}

    def write(self, **weights: int) -> None:
        """Change the weights as somebody else would; _ in a name stands for -."""
        refs = [{"name": name.replace("_", "-"), "port": 80, "weight": weight} for name, weight in weights.items()]
        self._merge({"spec": {"rules": [{"backendRefs": refs}]}})

    def note(self, _method: str, _path: str) -> None:
        """Look at what was just written."""
        weights = self.weights()
        if [weights] == self.written[-1:]:
            return
        self.written.append(weights)
        for each in weights.items():
            for action in self._then.pop(each, ()):
                action()


def make_route(stage: Stage, merge: Callable[[Document], object], read: Callable[[], Document] | None = None) -> Route:
    """Give an environment an HTTPRoute that leads all to Service hello, and have it release by it in blue-green without any soak."""
    blue_green(stage, kind="httproute")
    document = {
        "apiVersion": ROUTES,
        "kind": "HTTPRoute",
        "metadata": {"name": "hello"},
        "spec": {"parentRefs": [{"name": "web"}], "rules": [{"backendRefs": [{"name": "hello", "port": 80}]}]},
    }
    stage.client.create(find_kind(stage.client, "HTTPRoute").path(stage.namespace), document)
    return Route(stage, merge, read)


@pytest.fixture
def route(stage: Stage, kubernetes: KubernetesApi) -> Route:
    """`stage` with an HTTPRoute that gives Service hello everything, in blue-green without any soak."""
    where = (ROUTES, "httproutes", stage.namespace, "hello")
    made = make_route(
        stage, lambda patch: kubernetes.merge(*where, patch, manager="somebody"), lambda: kubernetes.read(*where)
    )
    kubernetes.after("PATCH", "/httproutes/hello", made.note, times=1000)
    wait_until(lambda: kubernetes.read(*where).get("status"), "the gateway has answered the route")
    return made


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are tried again at once, not after ten seconds."""
    monkeypatch.setattr("tasks.release_run.journaled.retry_delay_seconds", 0.05)


@pytest.fixture
def quick_balancer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a balancer may take passes twenty times as fast: three seconds in place of a minute."""
    monkeypatch.setattr("tasks.traffic.LOOK_SECONDS", 1.0)
    monkeypatch.setitem(Traffic.wait_effective.__kwdefaults__, "clock", lambda: time.monotonic() * 20)


@pytest.fixture
def stage_alb(
    stage: Stage, kubernetes: KubernetesApi, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Alb]:
    """`stage` behind a load balancer whose controller works, with an Ingress that gives Service hello everything, in blue-green without any soak."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing-secret")
    monkeypatch.setattr("tasks.traffic.LOOK_SECONDS", 0.2)
    monkeypatch.setattr("tasks.traffic.LEAST_SECONDS", 0.1)
    made = Alb(Ground(kubernetes, stage.namespace), s3_server.endpoint, s3_server.port)
    made.ingress(forward(hello=100))
    made.start()
    settings = {"region": REGION, "endpoint_url": made.endpoint}
    blue_green(stage, kind="alb", name="web", service="hello", action=ACTION, alb=settings)
    yield made
    made.close()


def add_autoscaler(stage: Stage, *, least: int, most: int) -> None:
    """Give Deployment hello an autoscaler; nobody but the test scales by it."""
    kind = find_kind(stage.client, "HorizontalPodAutoscaler")
    document = {
        "apiVersion": kind.api_version,
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "hello"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "hello"},
            "minReplicas": least,
            "maxReplicas": most,
        },
    }
    stage.client.create(kind.path(stage.namespace), document)


def scale(stage: Stage, api: KubernetesApi, name: str, replicas: int) -> None:
    """Scale a Deployment as an autoscaler would."""
    api.scaled(stage.namespace, name, {"spec": {"replicas": replicas}}, dry_run=False, manager="autoscaler")


def scaled(stage: Stage, api: KubernetesApi, name: str, replicas: int) -> None:
    """Scale a Deployment as an autoscaler would, and wait until it has so many Pods: who looks a moment earlier finds others."""
    scale(stage, api, name, replicas)
    wait_until(lambda: rolled_out(stage, name), f"{name} has {replicas} Pods")


def rolled_out(stage: Stage, name: str) -> bool:
    """Whether a Deployment's Pods are all of its newest template, all ready, and as many as it wants."""
    found = stage.deployment(name)
    status, wanted = found.get("status") or {}, found["spec"]["replicas"]
    counts = {int(status.get(key) or 0) for key in ("replicas", "updatedReplicas", "readyReplicas")}
    return status.get("observedGeneration") == found["metadata"]["generation"] and counts == {wanted}


def least(stage: Stage, name: str) -> int:
    """An autoscaler's minReplicas."""
    found: int = stage.client.get(find_kind(stage.client, "HorizontalPodAutoscaler").path(stage.namespace, name))[
        "spec"
    ]["minReplicas"]
    return found


def ready(stage: Stage, name: str) -> int:
    """How many Pods of a Deployment are ready."""
    return int((stage.deployment(name).get("status") or {}).get("readyReplicas") or 0)
