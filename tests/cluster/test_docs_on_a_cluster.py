"""What the pages have a reader type at a cluster: docs/kubernetes.md and docs/app-state.md, in a namespace of the test's own."""

from pathlib import Path

import pytest

from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import free_port
from tasks.kubernetes_client import KubernetesClient
from tests.docs_record import RUN_ELSEWHERE
from tests.fix_cluster import lab_program
from tests.fix_hello import HelloImages
from tests.fix_reader import Reader, this_shell

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_the_commands_of_the_pages(
    cluster: KubernetesClient, drill_namespace: str, hello_images: HelloImages, tmp_path: Path
) -> None:
    (tmp_path / "nightshift").symlink_to(CHECKOUT)
    tools = str(lab_program("up.sh").parent / "bin")
    reader = Reader(tmp_path, {**this_shell(), "PATH": f"{this_shell()['PATH']}:{tools}"})
    own = {"--namespace nightshift": f"--namespace {drill_namespace}", "-n production": f"-n {drill_namespace}"}
    page = "kubernetes.md"
    reader.types(
        page,
        "kubectl --namespace nightshift create configmap nightshift-environments --from-file=deployments/environments",
        stands_for=own,
    )
    made = cluster.get(f"/api/v1/namespaces/{drill_namespace}/configmaps/nightshift-environments")
    assert {"local.toml", "production.toml"} <= made["data"].keys()

    # What kustomize makes of it; that the cluster takes each document is test_kubernetes_manifests'.
    dry = {"kubectl apply -k": "kubectl kustomize"}
    assert "kind: NetworkPolicy" in reader.types(page, "kubectl apply -k deployments/kubernetes", stands_for=dry)

    serve(cluster, drill_namespace, hello_images.first)
    reader.types(page, "kubectl --namespace nightshift rollout status deployment/nightshift-server", stands_for=own)
    port = free_port()
    line = "kubectl --namespace nightshift port-forward service/nightshift-server 4200"
    with reader.goes_on(page, line, stands_for={**own, "4200": f"{port}:4200"}) as forward:
        forward.until_it_answers(f"http://127.0.0.1:{port}/ready")
    assert "nightshift-server" in reader.types("app-state.md", "kubectl -n production get pods", stands_for=own)
    assert {line for _, line, _ in reader.ran} == {one for one in RUN_ELSEWHERE if one.startswith("kubectl")}


def serve(cluster: KubernetesClient, namespace: str, image: str) -> None:
    """Put an application there under the name of the server."""
    labels = {"app": "nightshift-server"}
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    metadata = {"name": "nightshift-server"}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    cluster.create(
        f"/apis/apps/v1/namespaces/{namespace}/deployments",
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec},
    )
    ports = [{"name": "http", "port": 4200, "targetPort": "http"}]
    cluster.create(
        f"/api/v1/namespaces/{namespace}/services",
        {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"selector": labels, "ports": ports}},
    )
