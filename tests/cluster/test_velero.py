"""Application state on a real API server: Velero's kinds, with something that plays Velero and really copies objects; and what the small API of the tests claims."""

import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w
import yaml
from prefect.client.schemas.objects import State

from core.evidence import Report
from flows.app_state_backup import app_state_backup
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.kubernetes_answers import ExistsError, ForbiddenError, MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_cluster import NAMESPACES, Removals
from tests.fix_object_store import S3Server
from tests.fix_platform import CHECKOUT
from tests.fix_velero import Velero, location

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

Document = dict[str, Any]


class Lab:
    """An environment with a namespace of its own, its own Velero, and a scratch namespace's name."""

    def __init__(self, folder: Path, client: KubernetesClient, settings: Document, velero: Velero) -> None:
        self.folder, self.client, self.settings, self.velero = folder, client, settings, velero
        self.shop, self.scratch = settings["app_state"]["namespaces"][0], settings["app_state"]["drill_namespace"]

    def run(self, **parameters: Any) -> State[Any]:
        """Run the flow in this process and return its final state."""
        (self.folder / "apps.toml").write_text(tomli_w.dumps(self.settings))
        return app_state_backup("apps", **parameters, return_state=True)

    @property
    def report(self) -> Report:
        environment = load_environment("apps")
        return read_report(ObjectStore.open(environment), environment, signing_keys(environment))[1]

    def facts(self, step: str) -> Document:
        return next(one.facts for one in self.report.steps if one.name == step)


def namespace(name: str) -> Document:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def objects(shop: str) -> list[tuple[str, Document]]:
    """A bit of everything that an application has, each with its path."""
    pod = {
        "metadata": {"labels": {"app": "api"}},
        "spec": {"containers": [{"name": "api", "image": "localhost/never-made:1", "imagePullPolicy": "Never"}]},
    }
    selector = {"matchLabels": {"app": "api"}}
    core, apps = f"/api/v1/namespaces/{shop}", f"/apis/apps/v1/namespaces/{shop}"
    rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{shop}"
    job = {"spec": {"template": {"spec": {**pod["spec"], "restartPolicy": "Never"}}}}

    def document(api_version: str, kind: str, name: str, **content: Any) -> Document:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **content}

    deployed = {"replicas": 1, "selector": selector, "template": pod}
    service = {"selector": {"app": "api"}, "ports": [{"port": 80}]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}
    backend = {"service": {"name": "api", "port": {"number": 80}}}
    cron = {"schedule": "0 0 1 1 *", "jobTemplate": job}
    batch, network = f"/apis/batch/v1beta1/namespaces/{shop}", f"/apis/networking.k8s.io/v1/namespaces/{shop}"
    reading = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]
    return [
        (f"{core}/configmaps", document("v1", "ConfigMap", "settings", data={"a": "1"})),
        (f"{core}/secrets", document("v1", "Secret", "credentials", stringData={"password": "x"})),
        (f"{core}/serviceaccounts", document("v1", "ServiceAccount", "api")),
        (f"{core}/services", document("v1", "Service", "api", spec=service)),
        (f"{core}/persistentvolumeclaims", document("v1", "PersistentVolumeClaim", "files", spec=claim)),
        (f"{apps}/deployments", document("apps/v1", "Deployment", "api", spec=deployed)),
        (
            f"{apps}/statefulsets",
            document("apps/v1", "StatefulSet", "queue", spec={**deployed, "serviceName": "queue"}),
        ),
        (f"{batch}/cronjobs", document("batch/v1beta1", "CronJob", "nightly", spec=cron)),
        (
            f"{network}/ingresses",
            document("networking.k8s.io/v1", "Ingress", "public", spec={"defaultBackend": backend}),
        ),
        (f"{rbac}/roles", document("rbac.authorization.k8s.io/v1", "Role", "reader", rules=reading)),
    ]


@pytest.fixture
def lab(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cluster: KubernetesClient,
    prefect_server: str,
    s3_server: S3Server,
    bucket: str,
) -> Iterator[Lab]:
    """Namespaces of the test's own on the cluster, removed after it."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "a signing key of more than thirty-two characters")
    with Removals(cluster) as removals:
        mark = secrets.token_hex(4)
        shop, home, scratch = (f"nightshift-test-{mark}-{part}" for part in ("shop", "velero", "scratch"))
        for name in (shop, home):
            removals.create(NAMESPACES, namespace(name))
        removals.callback(_remove_if_there, cluster, scratch)
        for path, document in objects(shop):
            cluster.create(path, document)
        place = f"/apis/velero.io/v1/namespaces/{home}/backupstoragelocations"
        cluster.create(place, location(namespace=home))
        # Times are whole seconds: what was made in the second of the Backup may be in it or not.
        time.sleep(1.5)
        if cluster.get(f"{place}/default").get("status"):
            pytest.fail("something else plays Velero on this cluster: start it without (kube-lab: `up.sh all`)")
        cluster.merge(f"{place}/default/status", {"status": {"phase": "Available"}})
        settings = {
            "store": {
                "bucket": bucket,
                "endpoint_url": s3_server.endpoint,
                "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
                "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
            },
            "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
            "databases": {"app": {"host": "db.example.com", "name": "app", "user": "nobody"}},
            "app_state": {"namespaces": [shop], "velero_namespace": home, "drill_namespace": scratch},
        }
        with KubernetesClient.open(None) as client:
            velero = Velero(client, home)
            velero.start()
            try:
                yield Lab(tmp_path, cluster, settings, velero)
            finally:
                velero.stop()


def _remove_if_there(cluster: KubernetesClient, name: str) -> None:
    with suppress(MissingError):
        cluster.delete(f"{NAMESPACES}/{name}", uid=cluster.get(f"{NAMESPACES}/{name}")["metadata"]["uid"])


def test_a_backup_is_rehearsed_beside_where_nothing_starts_and_nothing_is_left(lab: Lab) -> None:
    seen: Document = {}

    def look() -> None:
        # Long enough for the controllers to try to make Pods, however busy they are.
        ends = time.monotonic() + 60
        time.sleep(2)
        while not seen.get("refused") and time.monotonic() < ends:
            events = lab.client.list(f"{NAMESPACES}/{lab.scratch}/events")
            seen["refused"] = [event["message"] for event in events if "exceeded quota" in (event.get("message") or "")]
            time.sleep(0.2)
        seen["pods"] = list(lab.client.list(f"{NAMESPACES}/{lab.scratch}/pods"))

    lab.velero.afterwards = look
    state = lab.run(drill=True)
    assert state.is_completed(), state.message
    compared = {row["kind"]: (row["before"], row["after"], row["restored"]) for row in lab.facts("compare")["compared"]}
    one = (1, 1, 1)
    assert compared == {
        "configmaps": one,
        "secrets": one,
        "serviceaccounts": one,
        "services": one,
        "deployments.apps": one,
        "statefulsets.apps": one,
        "cronjobs.batch": one,
        "roles.rbac.authorization.k8s.io": one,
    }
    left_out = {row["kind"] for row in lab.facts("compare")["left_out"]}
    assert {"ingresses.networking.k8s.io", "persistentvolumeclaims", "pods", "replicasets.apps"} <= left_out
    # The Deployment and the StatefulSet were there and tried to start.
    assert seen["pods"] == []
    assert seen["refused"]
    with pytest.raises(MissingError):
        lab.client.get(f"{NAMESPACES}/{lab.scratch}")


def test_an_object_that_does_not_come_back_is_named(lab: Lab) -> None:
    lab.velero.loses = {"credentials"}
    state = lab.run(drill=True)
    assert state.is_failed()
    assert "secrets of the backup is missing in the restored copy: credentials" in str(state.message)
    with pytest.raises(MissingError):
        lab.client.get(f"{NAMESPACES}/{lab.scratch}")


def test_a_velero_that_says_completed_and_restores_nothing_is_not_believed(lab: Lab, lab_controllers: None) -> None:
    """The lab's own controllers play Velero: they write the phases, and restore nothing."""
    lab.velero.stop()
    state = lab.run()
    assert state.is_completed(), state.message
    assert "Completed, 12 of 12 items" in str(state.message)
    state = lab.run(drill=True)
    assert state.is_failed()
    assert "configmaps of the backup is missing in the restored copy: settings" in str(state.message)


def test_a_partial_failure_says_why_its_errors_are_not_there(lab: Lab) -> None:
    """The lab has no DownloadRequests; a cluster with Velero's kinds has them, and nobody who answers."""
    lab.velero.backups_end = {"phase": "PartiallyFailed", "errors": 1}
    state = lab.run()
    assert state.is_failed()
    assert "ended PartiallyFailed" in str(state.message)
    findings = [finding for step in lab.report.steps for finding in step.findings]
    (warning,) = [finding.text for finding in findings if finding.severity == "warning"]
    assert "its errors could not be fetched" in warning
    assert "has no DownloadRequest" in warning or "did not answer" in warning


def test_a_dry_run_is_accepted_by_the_api_server_and_makes_nothing(lab: Lab) -> None:
    state = lab.run(dry_run=True, drill=True)
    assert state.is_completed(), state.message
    backups = lab.client.list(f"/apis/velero.io/v1/namespaces/{lab.velero.namespace}/backups")
    assert list(backups) == []


def test_the_role_of_the_runbook_is_enough_and_not_more_than_that(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, mark = lab.velero.namespace, lab.shop.removesuffix("-shop")
    accounts = f"{NAMESPACES}/{home}/serviceaccounts"
    lab.client.create(accounts, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "worker"}})
    account_file(lab.client, home, tmp_path / "worker")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "worker"))
    refused = lab.run(drill=True)
    assert f"create backups.velero.io in {home}" in str(refused.message)
    assert "Apply the role in docs/app-state.md" in str(refused.message)

    paths, subject = [], {"kind": "ServiceAccount", "name": "worker", "namespace": home}
    (text,) = re.findall(r"```yaml\n(.*?)```", (CHECKOUT / "docs" / "app-state.md").read_text(), re.DOTALL)
    text = text.replace("nightshift-app-state-drill", lab.scratch)
    for role in yaml.safe_load_all(text):
        kind = role["kind"]
        role["metadata"] = {"name": f"{mark}-{kind.lower()}", **({"namespace": home} if kind == "Role" else {})}
        root = "/apis/rbac.authorization.k8s.io/v1" + (f"/namespaces/{home}" if kind == "Role" else "")
        binding = {
            "apiVersion": role["apiVersion"],
            "kind": f"{kind}Binding",
            "metadata": role["metadata"],
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role["metadata"]["name"]},
            "subjects": [subject],
        }
        for plural, document in ((f"{kind.lower()}s", role), (f"{kind.lower()}bindings", binding)):
            made = lab.client.create(f"{root}/{plural}", document)
            paths.append((f"{root}/{plural}/{role['metadata']['name']}", made["metadata"]["uid"]))
    try:
        state = lab.run(drill=True)
        assert state.is_completed(), state.message
        assert lab.report.verdict == "passed"
        with KubernetesClient.open(None) as worker, pytest.raises(ForbiddenError):
            worker.delete(f"{NAMESPACES}/{lab.shop}", uid="x")
    finally:
        for path, uid in paths:
            lab.client.delete(path, uid=uid)


def account_file(client: KubernetesClient, namespace_name: str, file: Path) -> None:
    """Write a kubeconfig of the ServiceAccount `worker` (its token is asked for by TokenRequest)."""

    path = f"{NAMESPACES}/{namespace_name}/serviceaccounts/worker/token"
    request = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
    token = client.create(path, request)["status"]["token"]
    document = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    for user in document["users"]:
        user["user"] = {"token": token}
    file.write_text(yaml.safe_dump(document))


# What tests/fix_kubernetes.py claims of an API server


@pytest.fixture
def maps(cluster: KubernetesClient, drill_namespace: str) -> str:
    """The path of the ConfigMaps of a namespace of the test's own."""
    return f"{NAMESPACES}/{drill_namespace}/configmaps"


def config_map(name: str, **data: str) -> Document:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def test_conflicts_preconditions_and_dry_runs_are_as_the_small_api_has_them(
    cluster: KubernetesClient, maps: str
) -> None:
    cluster.create(maps, config_map("dry"), dry_run=True)
    with pytest.raises(MissingError):
        cluster.get(f"{maps}/dry")
    made = cluster.create(maps, config_map("a"))
    with pytest.raises(ExistsError, match="already exists"):
        cluster.create(maps, config_map("a"))
    version = made["metadata"]["resourceVersion"]
    assert cluster.merge(f"{maps}/a", {"metadata": {"resourceVersion": version}, "data": {"x": "1"}})["data"] == {
        "x": "1"
    }
    with pytest.raises(ExistsError, match="modified"):
        cluster.merge(f"{maps}/a", {"metadata": {"resourceVersion": version}, "data": {"x": "2"}})
    with pytest.raises(ExistsError, match=r"[Pp]recondition"):
        cluster.delete(f"{maps}/a", uid="another")
    cluster.delete(f"{maps}/a", uid=made["metadata"]["uid"])


def test_lists_come_in_pages_and_without_content_where_only_metadata_is_asked_for(
    cluster: KubernetesClient, maps: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.kubernetes_client.PAGE", 2)
    for number in range(5):
        cluster.create(maps, config_map(f"m{number}", password="x"))
    listed = list(cluster.list(maps, metadata_only=True))
    assert {f"m{number}" for number in range(5)} <= {item["metadata"]["name"] for item in listed}
    assert not any("data" in item for item in listed)


def test_a_watch_tells_what_changed_after_the_version_that_was_listed(cluster: KubernetesClient, maps: str) -> None:
    version = cluster.get(maps)["metadata"]["resourceVersion"]
    made = cluster.create(maps, config_map("a"))
    cluster.delete(f"{maps}/a", uid=made["metadata"]["uid"])
    seen = [
        (change["metadata"]["name"], change.get("deleted", False))
        for change in cluster.watch(maps, version, seconds=5, fieldSelector="metadata.name=a")
    ]
    assert seen == [("a", False), ("a", True)]
