"""The backup of application state as a flow: what is left in the cluster, in the report and in the final state, when all is well and when it is not."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from prefect.client.schemas.objects import State

from core.evidence import Report, Step
from flows.app_state_backup import app_state_backup
from tasks import app_state_steps
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_object_store import S3Server
from tests.fix_velero import Velero

pytestmark = pytest.mark.xdist_group("prefect")

SCRATCH = "nightshift-app-state-drill"


class Cluster:
    """The environment `apps` with its namespace `shop`, and what became of it."""

    def __init__(self, folder: Path, settings: dict[str, Any], api: KubernetesApi, velero: Velero) -> None:
        self.folder, self.settings, self.api, self.velero = folder, settings, api, velero

    def run(self, **parameters: Any) -> State[Any]:
        """Run the flow in this process and return its final state."""
        (self.folder / "apps.toml").write_text(tomli_w.dumps(self.settings))
        return app_state_backup("apps", **parameters, return_state=True)

    def made(self, plural: str) -> list[Document]:
        """The Backups or Restores in the cluster."""
        return self.api.select("velero.io/v1", plural, "velero", {})

    @property
    def namespaces(self) -> set[str]:
        return {each["metadata"]["name"] for each in self.api.select("v1", "namespaces", "", {})}

    @property
    def report(self) -> Report:
        """The newest report, its signature verified."""
        environment = load_environment("apps")
        return read_report(ObjectStore.open(environment), environment, signing_keys(environment))[1]

    def step(self, name: str) -> Step:
        """A step of the newest report."""
        return next(step for step in self.report.steps if step.name == name)


@pytest.fixture
def cluster(  # noqa: PLR0917 - fixtures
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    prefect_server: str,
    kubernetes: KubernetesApi,
    velero: Velero,
    s3_server: S3Server,
    bucket: str,
) -> Iterator[Cluster]:
    """A namespace `shop` with a bit of everything, made a while ago. Steps are retried without waiting."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "a signing key of more than thirty-two characters")
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, seconds_ago=60)
    for api_version, kind, name in (
        ("apps/v1", "Deployment", "api-server"),
        ("v1", "Service", "api-server"),
        ("v1", "ConfigMap", "settings"),
        ("v1", "Secret", "credentials"),
        ("batch/v1beta1", "CronJob", "nightly"),
        ("v1", "Pod", "api-server-1"),
        ("networking.k8s.io/v1", "Ingress", "public"),
    ):
        put(kubernetes, kind, name, api_version)
    for step in vars(app_state_steps).values():
        if hasattr(step, "retry_delay_seconds"):
            monkeypatch.setattr(step, "retry_delay_seconds", [0.0, 0.0, 0.0])
    settings = {
        "store": {
            "bucket": bucket,
            "endpoint_url": s3_server.endpoint,
            "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
            "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
        "databases": {"app": {"host": "db.example.com", "name": "app", "user": "nobody"}},
        "app_state": {"namespaces": ["shop"]},
    }
    yield Cluster(tmp_path, settings, kubernetes, velero)


def put(kubernetes: KubernetesApi, kind: str, name: str, api_version: str = "v1", seconds_ago: int = 60) -> Document:
    document: Document = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}}
    if kind == "Service":
        document["spec"] = {"type": "ClusterIP"}
    return kubernetes.put(document, seconds_ago=seconds_ago)


def test_a_backup_is_made_waited_for_and_reported(cluster: Cluster) -> None:
    state = cluster.run()
    assert state.is_completed(), state.message
    (backup,) = cluster.made("backups")
    assert backup["spec"]["includedNamespaces"] == ["shop"]
    assert backup["spec"]["ttl"] == "720h0m0s"
    assert f"Backup {backup['metadata']['name']} Completed" in str(state.message)
    assert cluster.report.verdict == "passed"
    facts = cluster.step("wait for Velero").facts
    assert (facts["phase"], facts["errors"]) == ("Completed", 0)
    assert facts["items"] > 4
    assert cluster.made("restores") == []
    assert SCRATCH not in cluster.namespaces


def test_a_rehearsal_restores_beside_compares_and_removes(cluster: Cluster) -> None:
    state = cluster.run(drill=True)
    assert state.is_completed(), state.message
    compared = {row["kind"]: row for row in cluster.step("compare").facts["compared"]}
    assert {kind: row["restored"] for kind, row in compared.items()} == {
        "configmaps": 1,
        "secrets": 1,
        "services": 1,
        "deployments.apps": 1,
        "cronjobs.batch": 1,
    }
    assert all(row["same"] for row in compared.values())
    left_out = {row["kind"]: row["why"] for row in cluster.step("compare").facts["left_out"]}
    assert left_out.keys() == {"pods", "ingresses.networking.k8s.io"}
    assert SCRATCH not in cluster.namespaces
    assert "5 objects restored beside and compared" in str(state.message)


def test_a_copy_that_lacks_an_object_fails_the_run_by_name_and_is_removed(cluster: Cluster) -> None:
    cluster.velero.loses = {"credentials"}
    state = cluster.run(drill=True)
    assert state.is_failed()
    assert "secrets of the backup is missing in the restored copy: credentials" in str(state.message)
    assert SCRATCH not in cluster.namespaces
    assert cluster.report.verdict == "failed"


def test_a_partial_failure_is_a_failure_with_veleros_reasons_and_nothing_is_rehearsed(cluster: Cluster) -> None:
    cluster.velero.backups_end = {"phase": "PartiallyFailed", "errors": 2, "warnings": 1}
    state = cluster.run(drill=True)
    assert state.is_failed()
    assert "PartiallyFailed" in str(state.message)
    assert "2 errors, 1 warning" in str(state.message)
    assert cluster.made("restores") == []
    assert cluster.step("wait for Velero").facts["errors"] == 2


def test_veleros_errors_are_in_the_message_and_in_the_report(cluster: Cluster) -> None:
    cluster.velero.backups_end = {"phase": "PartiallyFailed", "errors": 2}
    cluster.velero.meanwhile = lambda: put_results(
        cluster, "backups", velero=["no space left in the bucket"], namespaces={"shop": ["hook failed: exit code 1"]}
    )
    state = cluster.run()
    assert state.is_failed()
    assert "2 errors, 0 warnings; first error: no space left in the bucket → velero backup describe" in str(
        state.message
    )
    texts = [finding.text for finding in cluster.step("wait for Velero").findings if finding.severity == "error"]
    assert [text.partition(": ")[2] for text in texts[1:]] == [
        "no space left in the bucket",
        "shop: hook failed: exit code 1",
    ]
    assert cluster.made("downloadrequests") == []


def test_a_partial_failure_stays_one_when_nobody_can_say_why(cluster: Cluster) -> None:
    cluster.velero.backups_end = {"phase": "PartiallyFailed", "errors": 2}
    cluster.api.absent = {"downloadrequests"}
    state = cluster.run()
    assert state.is_failed()
    assert "ended PartiallyFailed" in str(state.message)
    found = {finding.severity: finding.text for finding in cluster.step("wait for Velero").findings}
    assert "PartiallyFailed" in found["error"]
    assert "its errors could not be fetched: this cluster's Velero has no DownloadRequest" in found["warning"]


def test_the_errors_of_a_rehearsals_restore_are_told_too(cluster: Cluster) -> None:
    cluster.velero.restores_end = {"phase": "PartiallyFailed", "errors": 1}
    cluster.velero.afterwards = lambda: put_results(cluster, "restores", namespaces={SCRATCH: ["services: denied"]})
    state = cluster.run(drill=True)
    assert state.is_failed()
    assert f"first error: {SCRATCH}: services: denied" in str(state.message)
    assert SCRATCH not in cluster.namespaces


def put_results(cluster: Cluster, plural: str, **errors: Any) -> None:
    """Put the errors of the newest Backup or Restore into Velero's bucket."""
    assert cluster.velero.bucket
    cluster.velero.bucket.put_results(cluster.made(plural)[-1]["metadata"]["name"], errors=errors)


def test_a_restore_that_fails_fails_the_run_and_is_removed(cluster: Cluster) -> None:
    cluster.velero.restores_end = {"phase": "Failed", "failureReason": "no such backup in the bucket"}
    state = cluster.run(drill=True)
    assert state.is_failed()
    assert "no such backup in the bucket" in str(state.message)
    assert SCRATCH not in cluster.namespaces


def test_an_environment_without_application_state_fails_before_anything_is_touched(cluster: Cluster) -> None:
    del cluster.settings["app_state"]
    state = cluster.run()
    assert state.is_failed()
    assert "no table [app_state]" in str(state.message)
    assert cluster.made("backups") == []


def test_a_location_that_is_not_available_fails_before_anything_is_made(cluster: Cluster) -> None:
    cluster.settings["app_state"]["storage_location"] = "dr"
    state = cluster.run()
    assert state.is_failed()
    assert "storage location dr" in str(state.message)
    assert cluster.made("backups") == []
    assert cluster.report.verdict == "failed"


def test_a_dry_run_checks_all_and_makes_nothing(cluster: Cluster) -> None:
    state = cluster.run(dry_run=True, drill=True)
    assert state.is_completed(), state.message
    assert "nothing was made" in str(state.message)
    assert cluster.made("backups") == []
    assert {row["kind"] for row in cluster.step("what would be backed up").facts["objects"]} >= {"secrets", "services"}


def test_an_api_server_that_fails_for_a_moment_is_bridged_without_a_second_backup(cluster: Cluster) -> None:
    cluster.api.fail("POST", "/backups", 500, times=1, after=True)
    cluster.api.fail("GET", "/namespaces/shop", 503, times=2, Retry_After="0.01")
    state = cluster.run()
    assert state.is_completed(), state.message
    assert len(cluster.made("backups")) == 1


def test_a_scratch_namespace_of_somebody_else_fails_the_rehearsal_and_stays(cluster: Cluster) -> None:
    cluster.api.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SCRATCH}})
    state = cluster.run(drill=True)
    assert state.is_failed()
    assert "not made by a rehearsal" in str(state.message)
    assert SCRATCH in cluster.namespaces
    assert cluster.made("restores") == []
