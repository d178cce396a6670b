"""The backup of application state as in service: `nightshift app-state-backup` deploys it to a Prefect server, whose worker runs it in a process of its own."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from core.evidence import Report
from deployments.command.prefect_api import server_of
from deployments.local.platform import Platform
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_kubernetes import KubernetesApi
from tests.fix_platform import make_platform, start_nightshift
from tests.fix_velero import Velero

pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("app-state-platform")]

SCRATCH = "nightshift-app-state-drill"


@pytest.fixture
def platform_with_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kubernetes: KubernetesApi, velero: Velero
) -> Iterator[Platform]:
    """A platform whose worker reaches the small Kubernetes API, and the environment `apps`, which is in no prefect.yaml."""
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}, seconds_ago=60)
    for kind, name in (("ConfigMap", "settings"), ("Secret", "credentials"), ("Pod", "api-1")):
        kubernetes.put(
            {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": "shop"}}, seconds_ago=60
        )
    folder = tmp_path / "environments"
    folder.mkdir()
    # The kubeconfig is the worker's alone: the command needs no cluster.
    variables = {"KUBECONFIG": os.environ["KUBECONFIG"], "NIGHTSHIFT_ENVIRONMENTS": str(folder)}
    monkeypatch.delenv("KUBECONFIG")
    with make_platform(tmp_path / "data", probes_only=True, variables=variables) as platform:
        local = {name: f"env:NIGHTSHIFT_LOCAL_{name.upper()}" for name in ("s3_key_id", "s3_secret", "signing_key")}
        settings = {
            "store": {
                "bucket": platform.store.bucket,
                "endpoint_url": platform.store.endpoint_url,
                "access_key_id": local["s3_key_id"],
                "secret_access_key": local["s3_secret"],
            },
            "signing": {"key": local["signing_key"]},
            "databases": {"app": {"host": "db.example.com", "name": "app", "user": "nobody"}},
            "app_state": {"namespaces": ["shop"]},
        }
        (folder / "apps.toml").write_text(tomli_w.dumps(settings))
        monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(folder))
        for name, value in platform.variables.items():
            monkeypatch.setenv(name, value)
        yield platform


def run(platform: Platform, *options: str) -> tuple[int, dict[str, Any], str]:
    """The command's exit code, its JSON, and what it said beside it."""
    process = start_nightshift(
        "app-state-backup",
        "apps",
        "--json",
        *options,
        NIGHTSHIFT_DATA=str(platform.folder.path.parent),
        NIGHTSHIFT_ENVIRONMENTS=os.environ["NIGHTSHIFT_ENVIRONMENTS"],
    )
    out, err = process.communicate(timeout=250)
    return process.returncode, json.loads(out or "{}"), err


def newest_report() -> Report:
    environment = load_environment("apps")
    return read_report(ObjectStore.open(environment), environment, signing_keys(environment))[1]


def test_the_command_has_a_worker_back_up_rehearse_and_report_and_a_failure_is_its_exit_code(
    platform_with_cluster: Platform, kubernetes: KubernetesApi, velero: Velero
) -> None:
    code, document, err = run(platform_with_cluster, "--drill")
    assert (code, document.get("state")) == (0, "Completed"), (document, err)
    assert "2 objects restored beside and compared" in document["message"]
    (backup,) = kubernetes.select("velero.io/v1", "backups", "velero", {})
    # The run's own id, as the server knows it, marks what it made.
    assert backup["metadata"]["labels"]["nightshift.dev/run"] == document["flow_run_id"]
    assert ("v1", "namespaces", "", SCRATCH) not in kubernetes.objects
    assert (newest_report().verdict, newest_report().run_id) == ("passed", document["flow_run_id"])
    with server_of(platform_with_cluster.running).client() as client:
        deployment = client.read_deployment_by_name("app-state-backup/apps")
    # An environment of one's own is not scheduled unasked.
    assert (deployment.entrypoint, deployment.schedules) == ("flows.app_state_backup.app_state_backup", [])

    def fail() -> None:
        assert velero.bucket
        newest = kubernetes.select("velero.io/v1", "backups", "velero", {})[-1]["metadata"]["name"]
        velero.bucket.put_results(newest, errors={"namespaces": {"shop": ["hook failed"]}})

    velero.backups_end, velero.meanwhile = {"phase": "PartiallyFailed", "errors": 1}, fail
    code, document, err = run(platform_with_cluster)
    assert (code, document.get("state")) == (1, "Failed"), (document, err)
    assert "PartiallyFailed" in document["message"]
    assert "first error: shop: hook failed" in document["message"]
    assert newest_report().verdict == "failed"
