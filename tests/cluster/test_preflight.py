"""Items of the checklist before a release, on a real cluster: what its controllers write is what the items read."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from core.environment_release import Release
from tasks.check_capacity import check_capacity, check_nodes
from tasks.check_images import check_staging
from tasks.check_secrets import check_secrets
from tasks.kubernetes_client import KubernetesClient
from tasks.live_images import read_live_image
from tasks.preflight_item import Preflight
from tests.fix_object_store import environment_for
from tests.waiting import wait_until

pytestmark = pytest.mark.cluster
IMAGE = "localhost/nightshift-test-nothing:h4-1"


def preflight(client: KubernetesClient, namespace: str, **checks: Any) -> Preflight:
    document = {"namespace": namespace, "repository": "localhost/api", "workloads": [{"name": "api"}], "checks": checks}
    release = Release.model_validate(document)
    return Preflight(environment_for("none", "http://127.0.0.1:9"), release, client, namespace, "", {}, {})


@pytest.fixture
def api(cluster: KubernetesClient, drill_namespace: str) -> Iterator[str]:
    """The namespace, with a Deployment whose image does not exist: its Pods count for quotas, and never run."""
    resources = {"requests": {"cpu": "10m", "memory": "8Mi"}}
    container = {"name": "main", "image": IMAGE, "imagePullPolicy": "Never", "resources": resources}
    labels = {"app": "api"}
    spec = {
        "replicas": 2,
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
    }
    document = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "api"}, "spec": spec}
    cluster.create(f"/apis/apps/v1/namespaces/{drill_namespace}/deployments", document)
    wait_until(
        lambda: len(list(cluster.list(f"/api/v1/namespaces/{drill_namespace}/pods"))) == 2, "both Pods are there"
    )
    yield drill_namespace


def test_a_quota_of_the_cluster_is_read_with_what_is_used(cluster: KubernetesClient, api: str) -> None:
    assert check_capacity(preflight(cluster, api)).state == "passed"
    path = f"/api/v1/namespaces/{api}/resourcequotas"
    document = {"metadata": {"name": "team"}, "spec": {"hard": {"pods": "2", "requests.cpu": "1"}}}
    cluster.create(path, document)
    wait_until(
        lambda: (cluster.get(f"{path}/team").get("status") or {}).get("used", {}).get("pods") == "2",
        "the quota is counted",
    )
    check = check_capacity(preflight(cluster, api))
    assert (check.state, check.found) == ("failed", "quota team: pods has 0 left of 2, and the release needs 1")
    cluster.merge(f"{path}/team", {"spec": {"hard": {"pods": "3"}}})
    wait_until(lambda: cluster.get(f"{path}/team")["status"]["hard"]["pods"] == "3", "the quota is changed")
    assert check_capacity(preflight(cluster, api)).state == "passed"


def test_nodes_of_the_cluster_are_read(cluster: KubernetesClient, api: str) -> None:
    check = check_nodes(preflight(cluster, api, capacity={"nodes": True}))
    assert check.state == "passed", check.found
    container = {"name": "main", "resources": {"requests": {"cpu": "900"}}}
    patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
    cluster.merge(f"/apis/apps/v1/namespaces/{api}/deployments/api", patch, strategic=True)
    assert check_nodes(preflight(cluster, api, capacity={"nodes": True})).state == "failed"


def test_pods_that_never_ran_are_no_live_image(cluster: KubernetesClient, api: str) -> None:
    deployment, live = read_live_image(cluster, api, preflight(cluster, api).release.workloads[0])
    assert deployment["metadata"]["name"] == "api"
    assert (live.images, live.unknown, live.template) == ((), 0, IMAGE)
    assert check_staging(preflight(cluster, api, staging={"namespace": api})).state == "failed"


@pytest.mark.usefixtures("lab_controllers")
def test_external_secrets_and_their_secrets_are_read_as_their_controller_writes_them(
    cluster: KubernetesClient, drill_namespace: str
) -> None:
    path = f"/apis/external-secrets.io/v1/namespaces/{drill_namespace}/externalsecrets"

    def put(name: str, **annotations: str) -> None:
        data = [{"secretKey": "TOKEN", "remoteRef": {"key": "api"}}]
        store = {"name": "store", "kind": "ClusterSecretStore"}
        spec = {"refreshInterval": "1h", "secretStoreRef": store, "target": {"name": name}, "data": data}
        metadata = {"name": name, "annotations": {f"lab/{key}": value for key, value in annotations.items()}}
        cluster.create(path, {"apiVersion": "external-secrets.io/v1", "kind": "ExternalSecret", "metadata": metadata, "spec": spec})  # fmt: skip
        wait_until(
            lambda: bool((cluster.get(f"{path}/{name}").get("status") or {}).get("conditions")), f"{name} is seen"
        )

    put("api", values=json.dumps({"TOKEN": "hidden-token"}))
    put("bad", fail="true")

    def look(external: list[str], *keys: str) -> Any:
        named = [{"name": "api", "keys": keys}]
        return check_secrets(preflight(cluster, drill_namespace, secrets={"external": external, "named": named}))

    check = look(["api"], "TOKEN")
    assert check.state == "passed", check.found
    assert "hidden-token" not in check.model_dump_json()
    check = look(["api", "bad"], "TOKEN", "OTHER")
    assert check.state == "failed"
    assert "ExternalSecret bad is not Ready: SecretSyncedError" in check.found
    assert "Secret api lacks OTHER" in check.found
    later = preflight(cluster, drill_namespace, secrets={"external": ["api"]})
    later.clock = lambda: datetime.now(UTC).replace(year=datetime.now(UTC).year + 1)
    assert "ExternalSecret api was refreshed" in check_secrets(later).found
