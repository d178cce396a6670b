"""What is left in the cluster when a scratch Pod does not go: never its password, and always what keeps its code from the network."""

import logging
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from core.environment import Environment
from core.errors import PermanentError
from core.scratch_pod import PodOrder
from core.velero import owner_labels
from tasks import drill_pod as drill_pods
from tasks.drill_pod import ROLE, ROLE_LABEL, drill_pod, sweep_pods
from tests.fix_kubernetes import KubernetesApi
from tests.fix_manifests import documents
from tests.fix_scratch import scratch_environment
from tests.waiting import wait_until

CHOICE = {"namespace": "default", "image": "postgres", "memory": "1Gi", "cpu": "1", "disk": "1Gi"}
READY = [{"type": "Ready", "status": "True"}]


def order_of(environment: Environment, run: str, *, start_seconds: int) -> PodOrder:
    """What a run of an environment orders."""
    return PodOrder(
        name=f"scratch-{run}",
        namespace="default",
        labels={**owner_labels(environment.name, run), ROLE_LABEL: ROLE},
        superuser="postgres",
        password="secret",
        settings={},
        initdb=(),
        choice=environment.drill.pod.model_copy(update={"start_seconds": start_seconds}),
    )


@pytest.mark.parametrize("lingers", [True, False])
def test_a_pod_that_does_not_go_keeps_its_policy_and_not_its_secret(
    kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch, lingers: bool
) -> None:
    monkeypatch.setattr(drill_pods, "_GONE_SECONDS", 0.5)
    environment = scratch_environment(scratch="pod", pod=CHOICE)
    kubernetes.lingers = {"pods"} if lingers else set()
    order = order_of(environment, "run", start_seconds=1)
    with pytest.raises(PermanentError, match="not ready after"), drill_pod(order, environment.name):
        pass
    left = {key[1] for key, found in kubernetes.objects.items() if found["metadata"].get("labels") == order.labels}
    assert left == ({"pods", "networkpolicies"} if lingers else set())


def verb_of(method: str, address: str) -> str:
    """What RBAC calls a request for a collection or an object (Kubernetes, "Determine the Request Verb"); nothing here asks for a single object."""
    reading = "watch" if "watch=" in address else "list"
    return {"GET": reading, "POST": "create", "PATCH": "patch", "DELETE": "delete"}[method]


def asked_of(kubernetes: KubernetesApi) -> set[tuple[str, str]]:
    """The rights that the requests needed: resource and verb."""
    asked = set()
    for method, address in kubernetes.requests:
        resource, _, name = address.partition("?")[0].partition("/namespaces/default/")[2].partition("/")
        assert bool(name) == (method in {"PATCH", "DELETE"}), address
        asked.add((resource, verb_of(method, address)))
    return asked


def test_the_shipped_role_grants_what_a_drill_asks_for_and_nothing_else(
    kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(drill_pods, "_SEEN_SECONDS", 0.05)
    environment = scratch_environment(scratch="pod", pod=CHOICE)
    order = order_of(environment, "run", start_seconds=30)

    def becomes_ready() -> None:
        wait_until(lambda: kubernetes.count("GET", "watch="), "the drill watches its Pod")
        kubernetes.set_status("v1", "pods", "default", order.name, phase="Running", conditions=READY)

    with ThreadPoolExecutor() as pool, caplog.at_level(logging.WARNING):
        cluster = pool.submit(becomes_ready)
        with drill_pod(order, environment.name):
            wait_until(lambda: kubernetes.count("PATCH", order.name), "the Pod is marked")
        cluster.result()
        sweep_pods(environment, now=datetime.now(UTC) + timedelta(hours=1))
    assert not caplog.records
    (role,) = [one for one in documents("drill-pods.yaml") if one["kind"] == "Role"]
    granted = {(what, verb) for rule in role["rules"] for what in rule["resources"] for verb in rule["verbs"]}
    # Port-forward is what the tests of a real cluster do.
    forwarding = {("pods/portforward", "get"), ("pods/portforward", "create")}
    assert granted == asked_of(kubernetes) | forwarding
