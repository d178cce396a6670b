"""What the pages have a reader type at a cluster: docs/kubernetes.md, app-state.md and performance.md, in namespaces of the test's own."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import free_port
from tasks.kubernetes_client import KubernetesClient
from tests.cluster.test_kubernetes_manifests import served
from tests.docs_pages import Command, split_line
from tests.docs_record import RUN_ELSEWHERE, form_of
from tests.fix_cluster import Removals, lab_program
from tests.fix_hello import HelloImages
from tests.fix_manifests import FOLDER, documents
from tests.fix_reader import Reader, this_shell
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """A reader in this checkout itself, who has kubectl."""
    (tmp_path / "nightshift").symlink_to(CHECKOUT)
    tools = str(lab_program("up.sh").parent / "bin")
    return Reader(tmp_path, {**this_shell(), "PATH": f"{this_shell()['PATH']}:{tools}"})


def test_the_commands_of_the_pages(
    cluster: KubernetesClient, drill_namespace: str, hello_images: HelloImages, reader: Reader
) -> None:
    own = {"--namespace nightshift": f"--namespace {drill_namespace}", "-n production": f"-n {drill_namespace}"}
    page = "kubernetes.md"
    reader.types(
        page,
        "kubectl --namespace nightshift create configmap nightshift-environments --from-file=deployments/environments",
        stands_for=own,
    )
    made = cluster.get(f"/api/v1/namespaces/{drill_namespace}/configmaps/nightshift-environments")
    assert {"local.toml", "production.toml"} <= made["data"].keys()

    with Removals(cluster) as removals:
        applied = removals.namespace()
        quota = {"metadata": {"name": "no-pods"}, "spec": {"hard": {"pods": "0"}}}
        removals.create(
            f"/api/v1/namespaces/{applied}/resourcequotas", {"apiVersion": "v1", "kind": "ResourceQuota", **quota}
        )
        files = {"deployments/kubernetes": str(files_of(cluster, applied, reader.root / "files"))}
        said = reader.types(page, "kubectl apply -k deployments/kubernetes", stands_for=files)
        assert "deployment.apps/nightshift-receiver created" in said
        assert cluster.get(f"/apis/apps/v1/namespaces/{applied}/deployments/nightshift-server")["spec"]["replicas"] == 2
        line, folder = "kubectl apply -f namespace.yaml -f network-policies.yaml …", reader.root / "files"
        one_by_one = {line: f"kubectl apply -f {folder}/namespace.yaml -f {folder}/network-policies.yaml"}
        assert "networkpolicy" in reader.types(page, line, stands_for=one_by_one)

    serve(cluster, drill_namespace, hello_images.first)
    reader.types(page, "kubectl --namespace nightshift rollout status deployment/nightshift-server", stands_for=own)
    port = free_port()
    line = "kubectl --namespace nightshift port-forward service/nightshift-server 4200"
    with reader.goes_on(page, line, stands_for={**own, "4200": f"{port}:4200"}) as forward:
        forward.until_it_answers(f"http://127.0.0.1:{port}/ready")
    assert "nightshift-server" in reader.types("app-state.md", "kubectl -n production get pods", stands_for=own)
    taken_back(cluster, drill_namespace, reader)
    drilled(drill_namespace, reader)
    velero = {"-n velero": f"-n {drill_namespace}"}
    for what in ("backupstoragelocations", "pods"):
        reader.types("app-state.md", f"kubectl -n velero get {what}", stands_for=velero)
    typed = {form_of(Command(page, tuple(words))) for page, line, _ in reader.ran for words in split_line(line)}
    assert typed == {one for one in RUN_ELSEWHERE if one.startswith("kubectl")}


def taken_back(cluster: KubernetesClient, namespace: str, reader: Reader) -> None:
    """What rollback.md has a person do to a cluster by hand."""
    page = "rollback.md"
    own, journals = {"-n production": f"-n {namespace}"}, {"-n nightshift": f"-n {namespace}"}
    assert "nightshift-server" in reader.types(page, "kubectl -n production get deployments", stands_for=own)
    changed = reader.shell(f"kubectl -n {namespace} set env deployment/nightshift-server VERSION=2")
    assert changed.returncode == 0, changed.stderr

    def is_seen() -> bool:
        found = cluster.get(f"/apis/apps/v1/namespaces/{namespace}/deployments/nightshift-server")
        return bool(found["status"].get("observedGeneration") == found["metadata"]["generation"])

    for name in ("hello-green", "api-server"):
        # Until its controller has given the last change a revision, there is none before it to go back to.
        wait_until(is_seen, "the last change has its revision")
        line = f"kubectl -n production rollout undo deployment/{name}"
        assert "rolled back" in reader.types(page, line, stands_for={**own, name: "nightshift-server"})
    journal = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nightshift-r-0"}}
    cluster.create(f"/api/v1/namespaces/{namespace}/configmaps", journal)
    line = "kubectl -n nightshift delete configmap nightshift-r-…"
    reader.types(page, line, stands_for={**journals, "nightshift-r-…": "nightshift-r-0"})
    leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
    held = {"metadata": {"name": "nightshift-mine"}, "spec": {"holderIdentity": "r-0"}}
    cluster.create(leases, {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", **held})
    line = """kubectl -n nightshift patch lease nightshift-production --type merge --patch '{"spec":{"holderIdentity":""}}'"""
    reader.types(page, line, stands_for=journals)
    assert not cluster.get(f"{leases}/nightshift-mine")["spec"].get("holderIdentity")


def drilled(namespace: str, reader: Reader) -> None:
    """The namespaces that a person makes, for journals and for drills."""
    journals, drills, file = f"{namespace}-journals", f"{namespace}-drills", "deployments/kubernetes/drill-pods.yaml"
    text = (CHECKOUT / file).read_text().replace("nightshift-drills", drills)
    changed = reader.root / "drill-pods.yaml"
    changed.write_text(text.replace("namespace: nightshift}", f"namespace: {namespace}}}"))
    try:
        own = {"namespace nightshift": f"namespace {journals}"}
        reader.types("release.md", "kubectl create namespace nightshift", stands_for=own)
        said = reader.types("kubernetes.md", f"kubectl apply -f {file}", stands_for={file: str(changed)})
        assert f"namespace/{drills} created" in said
    finally:
        reader.shell(f"kubectl delete namespace --wait=false {journals} {drills}")


@pytest.mark.platform
@pytest.mark.timeout(900)
def test_the_benchmark_of_releases_in_small(cluster: KubernetesClient, reader: Reader) -> None:
    """It comes to its end and prints its figures; so small, on a busy machine, they may miss their bars."""
    lab_program("apps/hello/build.sh")
    line = ".venv/bin/python -m benchmarks.release --pairs 5"
    small = {line: f"{line}; [ $? -le 1 ]", "5": "1"}
    said = reader.types("performance.md", line, stands_for=small, seconds=800)
    [figures] = [one for one in said.splitlines() if one.startswith('{"benchmark"')]
    assert json.loads(figures)["ratios"]


def files_of(cluster: KubernetesClient, namespace: str, folder: Path) -> Path:
    """The folder that `-k` takes, for another namespace, in the versions of each kind that the cluster serves."""
    folder.mkdir()
    shutil.copy(FOLDER / "kustomization.yaml", folder)
    for name in yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]:
        found = [served(cluster, one) for one in documents(name, namespace)]
        for one in found:
            if one["kind"] == "Namespace":
                one["metadata"]["name"] = namespace
        (folder / name).write_text(yaml.safe_dump_all(found))
    return folder


def serve(cluster: KubernetesClient, namespace: str, image: str) -> None:
    """Put an application there under the name of the server."""
    labels = {"app": "nightshift-server"}
    container = {
        "name": "server",
        "image": image,
        "imagePullPolicy": "Never",
        "ports": [{"name": "http", "containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5},
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
