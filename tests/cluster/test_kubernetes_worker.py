"""The worker of deployments/kubernetes/worker.yaml on a real cluster: backup and drill as Pods of the job template, and a Pod that is killed."""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import tomli_w
import yaml

from deployments.command.deploying import PREFECT_FILE, deployment_file
from deployments.local.data_folder import DataFolder
from deployments.local.prefect_server import PrefectServer
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers
from tests.fix_cluster import Removals, lab_program
from tests.fix_manifests import FOLDER, collection_of, documents
from tests.fix_nightly import TABLES
from tests.fix_nightshift_image import USER
from tests.fix_object_store import S3Server
from tests.fix_pod_postgres import PodPostgres, serving_pods
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

# The lab's address that Pods reach, and the network that it lives in: what expose.sh does for as long as the lab is up, for as long as this test runs.
NODE, NETWORK = "10.99.0.2", "kubelab"
POOL = "nightshift_kubernetes"
PASSWORD = "NIGHTSHIFT_POD_DATABASE_PASSWORD"
SIGNING_KEY = "a signing key of more than thirty-two characters"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
Document = dict[str, Any]


@dataclass(frozen=True)
class Lab:
    """A worker in the cluster, a server on the host, and what the test asks of both."""

    cluster: KubernetesClient
    namespace: str
    rest: httpx.Client
    database: str

    def start(self, flow: str, **parameters: Any) -> str:
        """Start a deployment's run as the UI does; return its id."""
        found = self.rest.get(f"/deployments/name/{flow}/pods").raise_for_status().json()
        body = {"parameters": parameters, "idempotency_key": secrets.token_hex(8)}
        made = self.rest.post(f"/deployments/{found['id']}/create_flow_run", json=body).raise_for_status().json()
        return str(made["id"])

    def state(self, run: str) -> Document:
        """A run's state."""
        state: Document = self.rest.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        return state

    def wait_for_end(self, run: str) -> Document:
        """Wait until a run has ended; return its state."""
        wait_until(lambda: self.state(run)["type"] in ENDED, f"run {run} ends", seconds=240)
        return self.state(run)

    def pods_of(self, run: str) -> list[Document]:
        """A run's Pods."""
        return [one for one in self._pods() if one["metadata"]["labels"].get("prefect.io/flow-run-id") == run]

    def evict(self, pod: Document) -> None:
        """Have a Pod ended, as a node that is drained does: SIGTERM, and SIGKILL after its grace."""
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
        self.cluster.delete(path, uid=pod["metadata"]["uid"])

    def waits_of(self, postgres: PodPostgres) -> set[str]:
        """What the sessions on the database wait for."""
        asked = "SELECT DISTINCT lower(wait_event_type) FROM pg_stat_activity WHERE datname = %s"
        with postgres.server.connect() as connection:
            return {row[0] for row in connection.execute(asked, [self.database]).fetchall()}

    def log_of(self, run: str) -> str:
        """A run's log as the server has it."""
        query = {"logs": {"flow_run_id": {"any_": [run]}}, "sort": "TIMESTAMP_ASC"}
        found = self.rest.post("/logs/filter", json=query).raise_for_status().json()
        return "\n".join(one["message"] for one in found)

    def _pods(self) -> list[Document]:
        return list(self.cluster.list(f"/api/v1/namespaces/{self.namespace}/pods"))


@contextmanager
def exposed(port: int) -> Iterator[str]:
    """Let Pods reach a port of the host's loopback; yield the address that they use."""
    program = lab_program("fwd.py")
    command = [sys.executable, str(program), NETWORK, NODE, str(port), "127.0.0.1", str(port)]
    process = subprocess.Popen(command)
    try:
        wait_until(lambda: _accepts(port), f"{NODE}:{port} accepts connections")
        yield f"{NODE}:{port}"
    finally:
        process.terminate()
        process.wait(10)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((NODE, port)) == 0


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
) -> Iterator[Lab]:
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
        _deploy(prefect, tmp_path)
        there = f"{worker} is there"
        wait_until(lambda: cluster.get(worker).get("status", {}).get("availableReplicas") == 1, there, seconds=180)
        yield Lab(cluster, namespace, rest, environment["databases"]["app"]["name"])


def environment_of(postgres: PodPostgres, s3: str, bucket: str) -> Document:
    """The environment's file, as the Pods read it."""
    return {
        "store": {
            "bucket": bucket,
            "endpoint_url": s3,
            "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
            "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
        "databases": {
            "app": {
                "host": postgres.host,
                "port": postgres.server.port,
                "name": postgres.new_database(*TABLES),
                "user": postgres.server.superuser,
                "password": f"env:{PASSWORD}",
            }
        },
    }


def _prepare(
    removals: Removals, namespace: str, prefect: PrefectServer, postgres: PodPostgres, environment: Document
) -> None:
    """What an operator makes beforehand: the password of the server, what runs read by `env:`, and the environments."""
    run = {
        PASSWORD: postgres.server.password,
        "NIGHTSHIFT_TEST_SIGNING_KEY": SIGNING_KEY,
        "NIGHTSHIFT_TEST_S3_KEY": "testing",
        "NIGHTSHIFT_TEST_S3_SECRET": "testing-secret",
    }
    for name, content in (("nightshift-prefect", {"auth-string": prefect.auth_string}), ("nightshift-run", run)):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        removals.client.create(f"/api/v1/namespaces/{namespace}/secrets", secret)
    files = {"pods.toml": tomli_w.dumps(environment)}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "nightshift-environments"}, "data": files}
    removals.client.create(f"/api/v1/namespaces/{namespace}/configmaps", document)


def _make_pool(rest: httpx.Client, namespace: str, image: str) -> None:
    """The pool of the shipped template, with this namespace and image, and the variable that chooses it."""
    template = json.loads((FOLDER / "job-template.json").read_text())
    for name, value in (("namespace", namespace), ("image", image)):
        template["variables"]["properties"][name]["default"] = value
    pool = {"name": POOL, "type": "kubernetes", "base_job_template": template}
    rest.post("/work_pools/", json=pool).raise_for_status()
    rest.post("/variables/", json={"name": "nightshift_pool", "value": "_kubernetes"}).raise_for_status()


def _deploy(prefect: PrefectServer, folder: Path) -> None:
    """The deployments of prefect.yaml."""
    document = yaml.safe_load(PREFECT_FILE.read_text())
    entries = [deployment_file(document, flow, "pods")[0]["deployments"][0] for flow in ("nightly-backup", "dr-drill")]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    prefect.deploy({}, prefect_file=file, names="*/pods")


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
    lab: Lab, postgres: PodPostgres, s3_server: S3Server, bucket: str
) -> None:
    backup = lab.start("nightly-backup")
    _completes(lab, backup)
    (pod,) = lab.pods_of(backup)
    _is_confined(pod, "nightshift-backup")
    drill = lab.start("dr-drill")
    _completes(lab, drill)
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


def _completes(lab: Lab, run: str) -> None:
    state = lab.wait_for_end(run)
    assert state["type"] == "COMPLETED", f"{state['message']}\n{lab.log_of(run)}"


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
