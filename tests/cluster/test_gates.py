"""/health and /ready through the proxy of a real API server: what a Pod says is told from what the API server says in its place."""

import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from core.environment_gates import Gates
from core.metric_gate import Verdict
from tasks.kubernetes_client import KubernetesClient
from tasks.pod_health import check_pods, find_side
from tests.fix_cluster import image_turn, lab_program
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

VERSIONS = {"gates-good": (), "gates-bad": ("ERROR_RATE=0.5",), "gates-never": ("READY_DELAY=never",)}
Deploy = Callable[..., str]


@pytest.fixture(scope="module")
def images() -> None:
    """The lab's application in three versions, on the lab's node."""
    build = lab_program("apps/hello/build.sh")
    for version, knobs in VERSIONS.items():
        with image_turn():
            made = subprocess.run([build, version, *knobs], capture_output=True, text=True, check=False, timeout=120)
        assert made.returncode == 0, made.stderr


@pytest.fixture
def deploy(cluster: KubernetesClient, drill_namespace: str, images: None) -> Deploy:
    def deployed(version: str, *, probe: str = "/ready", replicas: int = 1) -> str:
        labels = {"app": version}
        container = {
            "name": "hello",
            "image": f"localhost/hello:{version}",
            "imagePullPolicy": "IfNotPresent",
            "ports": [{"containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": probe, "port": 8080}, "periodSeconds": 1, "timeoutSeconds": 5},
        }
        template = {
            "metadata": {"labels": labels},
            "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
        }
        document: dict[str, Any] = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": version},
            "spec": {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template},
        }
        cluster.create(f"/apis/apps/v1/namespaces/{drill_namespace}/deployments", document)
        return f"app={version}"

    return deployed


def checked(cluster: KubernetesClient, namespace: str, selector: str, **settings: Any) -> Verdict:
    return check_pods(cluster, Gates(health_seconds=5, **settings), namespace=namespace, selector=selector)


def wait_for_ready(cluster: KubernetesClient, namespace: str, selector: str, count: int) -> None:
    def ready() -> bool:
        side = find_side(cluster, namespace, selector)
        return side is not None and len(side.names) == count

    wait_until(ready, f"{count} Pods of {selector} are ready", seconds=120)


def test_ready_pods_pass_and_a_port_where_nobody_listens_holds(
    cluster: KubernetesClient, drill_namespace: str, deploy: Deploy
) -> None:
    selector = deploy("gates-good", replicas=2)
    assert checked(cluster, drill_namespace, selector).state != "pass"
    wait_for_ready(cluster, drill_namespace, selector, 2)
    verdict = checked(cluster, drill_namespace, selector)
    assert (verdict.state, verdict.found) == ("pass", "2 of 2 Pods are ready, and each of these answered 200")
    side = find_side(cluster, drill_namespace, selector)
    assert side is not None
    assert len(side.replica_sets) == 1
    assert all(name.startswith(f"{side.replica_sets[0]}-") for name in side.names)
    refused = checked(cluster, drill_namespace, selector, port=8081)
    assert (refused.state, "connection refused" in refused.found) == ("inconclusive", True), refused.found


def test_a_pod_that_is_never_ready_fails_and_one_that_only_says_so_holds(
    cluster: KubernetesClient, drill_namespace: str, deploy: Deploy
) -> None:
    selector = deploy("gates-never")
    pods = f"/api/v1/namespaces/{drill_namespace}/pods"
    wait_until(
        lambda: any(pod["status"].get("phase") == "Running" for pod in cluster.list(pods, labelSelector=selector)),
        "the Pod runs",
        seconds=120,
    )
    verdict = checked(cluster, drill_namespace, selector)
    assert verdict.state == "fail"
    assert verdict.found.startswith("none of 1 Pods is ready: Pod gates-never-")
    assert "container hello: it runs and is not ready" in verdict.found


def test_a_pod_whose_probe_is_wrong_is_asked_itself(
    cluster: KubernetesClient, drill_namespace: str, deploy: Deploy
) -> None:
    selector = deploy("gates-never", probe="/health")
    wait_for_ready(cluster, drill_namespace, selector, 1)
    verdict = checked(cluster, drill_namespace, selector)
    assert (verdict.state, "answered 503 on /ready" in verdict.found) == ("inconclusive", True), verdict.found


def test_health_alone_does_not_see_requests_that_fail(
    cluster: KubernetesClient, drill_namespace: str, deploy: Deploy
) -> None:
    selector = deploy("gates-bad")
    wait_for_ready(cluster, drill_namespace, selector, 1)
    assert checked(cluster, drill_namespace, selector).state == "pass"
