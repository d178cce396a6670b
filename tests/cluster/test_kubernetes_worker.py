"""The worker of deployments/kubernetes/worker.yaml on a real cluster: backup and drill as Pods of the job template, and a Pod that is killed."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import tomli_w

from deployments.local.data_folder import DataFolder
from deployments.local.prefect_server import PrefectServer
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers
from tests.fix_cluster import Removals
from tests.fix_manifests import collection_of, documents
from tests.fix_nightshift_image import USER
from tests.fix_object_store import S3Server
from tests.fix_pod_postgres import PodPostgres, serving_pods
from tests.fix_pod_runs import (
    POOL,
    Document,
    PodRuns,
    create_secrets,
    environment_of,
    exposed,
    pod_deployments,
    pool_template,
    posted,
    run_secret,
)
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]


@pytest.fixture
def postgres() -> Iterator[PodPostgres]:
    """A PostgreSQL of the major that the image has."""
    with serving_pods(installed_servers()[0].major) as server:
        yield server


@pytest.fixture
def lab(  # noqa: PLR0917 - fixtures
    cluster: KubernetesClient,
    nightshift_image: str,
    postgres: PodPostgres,
    s3_server: S3Server,
    bucket: str,
    tmp_path: Path,
) -> Iterator[PodRuns]:
    """The shipped worker, with a namespace and an address of the test's own, and the deployments of prefect.yaml for an environment `pods`."""
    data = DataFolder(tmp_path / "data")
    data.claim()
    prefect = PrefectServer(data, preferred_port=0)
    with ExitStack() as stack:
        stack.callback(data.release)
        stack.callback(prefect.service.stop)
        prefect.start()
        removals = stack.enter_context(Removals(cluster))
        namespace = removals.namespace()
        prefect.wait_until_ready()
        api = f"http://{stack.enter_context(exposed(prefect.port))}/api"
        s3 = f"http://{stack.enter_context(exposed(s3_server.port))}"
        environment = environment_of(postgres, s3, bucket)
        _prepare(removals, namespace, prefect, postgres, environment)
        login = (prefect.user, prefect.password)
        rest = stack.enter_context(httpx.Client(base_url=prefect.api_url, auth=login, trust_env=False, timeout=30))
        _make_pool(rest, namespace, nightshift_image)
        worker = _start_worker(removals, namespace, nightshift_image, api)
        prefect.deploy({}, prefect_file=pod_deployments(tmp_path), names="*/pods")
        there = f"{worker} is there"
        wait_until(lambda: cluster.get(worker).get("status", {}).get("availableReplicas") == 1, there, seconds=180)
        yield PodRuns(cluster, namespace, rest, environment["databases"]["app"]["name"])


def _prepare(
    removals: Removals, namespace: str, prefect: PrefectServer, postgres: PodPostgres, environment: Document
) -> None:
    """What an operator makes beforehand: the password of the server, what runs read by `env:`, and the environments."""
    contents = {"nightshift-prefect": {"auth-string": prefect.auth_string}, "nightshift-run": run_secret(postgres)}
    create_secrets(removals.client, namespace, contents)
    files = {"pods.toml": tomli_w.dumps(environment)}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nightshift-environments"}, "data": files}
    removals.client.create(f"/api/v1/namespaces/{namespace}/configmaps", document)


def _make_pool(rest: httpx.Client, namespace: str, image: str) -> None:
    """The pool of the shipped template, with this namespace and image, and the variable that chooses it."""
    pool = {"name": POOL, "type": "kubernetes", "base_job_template": pool_template(namespace, image)}
    posted(rest, "/work_pools/", pool)
    posted(rest, "/variables/", {"name": "nightshift_pool", "value": "_kubernetes"})


def _start_worker(removals: Removals, namespace: str, image: str, api: str) -> str:
    """The shipped worker, with the address of this server; return its Deployment's path."""
    for document in documents("worker.yaml", namespace):
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            container["image"] = image
            (address,) = [one for one in container["env"] if one["name"] == "PREFECT_API_URL"]
            address["value"] = api
        removals.create(collection_of(document), document)
    return f"/apis/apps/v1/namespaces/{namespace}/deployments/nightshift-worker"


def test_backup_and_drill_run_as_pods_and_a_killed_pod_is_told_of(
    lab: PodRuns, postgres: PodPostgres, s3_server: S3Server, bucket: str
) -> None:
    backup = lab.start("nightly-backup")
    lab.completes(backup)
    (pod,) = lab.pods_of(backup)
    _is_confined(pod, "nightshift-backup")
    drill = lab.start("dr-drill")
    lab.completes(drill)
    listed = s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in listed if item["Key"].endswith("state/proven.json")]
    # A backup that waits for a lock is in the middle for as long as this holds it.
    with postgres.server.connect(lab.database) as holder, holder.transaction():
        holder.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
        waiting = lab.start("nightly-backup")
        wait_until(lambda: "lock" in lab.waits_of(postgres), "the backup waits for the lock", seconds=120)
        (pod,) = lab.pods_of(waiting)
        lab.evict(pod)
        state = lab.wait_for_end(waiting)
    assert state["type"] == "CRASHED"
    # Told by the worker, which looks at the Job.
    assert "No active or succeeded pods" in state["message"]


def _is_confined(pod: Document, account: str) -> None:
    """What the cluster made of the template: no root, no rights, no token, no password in plain sight."""
    spec = pod["spec"]
    assert spec["serviceAccountName"] == account
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["runAsUser"] == USER
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    mounted = [mount["mountPath"] for mount in container["volumeMounts"]]
    assert mounted == ["/etc/nightshift/environments", "/tmp", "/home/nightshift"]
    variables = {one["name"]: one for one in container["env"]}
    assert variables["PREFECT_API_AUTH_STRING"]["valueFrom"]["secretKeyRef"]["name"] == "nightshift-prefect"
    assert variables["PREFECT_FLOW_RUN_EXECUTE_SIGTERM_BEHAVIOR"]["value"] == "crash"
    assert not [one for one in variables if one.startswith("NIGHTSHIFT_")]
