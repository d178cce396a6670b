"""What is left in the cluster when a scratch Pod does not go: never its password, and always what keeps its code from the network."""

from datetime import UTC, datetime

import pytest

from core.errors import PermanentError
from core.scratch_pod import PodOrder
from core.velero import owner_labels
from tasks import drill_pod as drill_pods
from tasks.drill_pod import ROLE, ROLE_LABEL, drill_pod
from tests.fix_kubernetes import KubernetesApi
from tests.fix_scratch import scratch_environment

CHOICE = {"namespace": "default", "image": "postgres", "memory": "1Gi", "cpu": "1", "disk": "1Gi"}


@pytest.mark.parametrize("lingers", [True, False])
def test_a_pod_that_does_not_go_keeps_its_policy_and_not_its_secret(
    kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch, lingers: bool
) -> None:
    monkeypatch.setattr(drill_pods, "_GONE_SECONDS", 0.5)
    environment = scratch_environment(scratch="pod", pod=CHOICE)
    kubernetes.lingers = {"pods"} if lingers else set()
    labels = {**owner_labels(environment.name, "run"), ROLE_LABEL: ROLE}
    order = PodOrder(
        name=f"scratch-{datetime.now(UTC):%S}",
        namespace="default",
        labels=labels,
        superuser="postgres",
        password="secret",
        settings={},
        initdb=(),
        choice=environment.drill.pod.model_copy(update={"start_seconds": 1}),
    )
    with pytest.raises(PermanentError, match="not ready after"), drill_pod(order, environment.name):
        pass
    left = {key[1] for key, found in kubernetes.objects.items() if found["metadata"].get("labels") == labels}
    assert left == ({"pods", "networkpolicies"} if lingers else set())
