"""Runs as Pods: the environment `pods` whose servers are this machine's, its deployments, the pool's template, and what a test asks of cluster and Prefect server."""

import json
import secrets
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import yaml

from deployments.command.deploying import PREFECT_FILE, deployment_file
from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import lab_program
from tests.fix_manifests import FOLDER
from tests.fix_nightly import TABLES
from tests.fix_pod_postgres import PodPostgres
from tests.waiting import wait_until

# The lab's address that Pods reach, and the network that it lives in: what expose.sh does for as long as the lab is up, for as long as this test runs.
NODE, NETWORK = "10.99.0.2", "kubelab"
POOL = "nightshift_kubernetes"
PASSWORD = "NIGHTSHIFT_POD_DATABASE_PASSWORD"
SIGNING_KEY = "a signing key of more than thirty-two characters"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}
Document = dict[str, Any]


def posted(rest: httpx.Client, path: str, body: Document) -> httpx.Response:
    """The answer to a request that makes something. A server on SQLite answers 503 when two write at once: again then."""
    answers: list[httpx.Response] = []

    def taken() -> bool:
        answers.append(rest.post(path, json=body))
        return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

    wait_until(taken, f"the server takes {path}")
    return answers[-1].raise_for_status()


@dataclass(frozen=True)
class PodRuns:
    """A worker in the cluster, a server, and what the test asks of both."""

    cluster: KubernetesClient
    namespace: str
    rest: httpx.Client
    database: str

    def start(self, flow: str, **parameters: Any) -> str:
        """Start a deployment's run as the UI does; return its id."""
        found = self.rest.get(f"/deployments/name/{flow}/pods").raise_for_status().json()
        body = {"parameters": parameters, "idempotency_key": secrets.token_hex(8)}
        return str(posted(self.rest, f"/deployments/{found['id']}/create_flow_run", body).json()["id"])

    def state(self, run: str) -> Document:
        """A run's state."""
        state: Document = self.rest.get(f"/flow_runs/{run}").raise_for_status().json()["state"]
        return state

    def wait_for_end(self, run: str) -> Document:
        """Wait until a run has ended; return its state."""
        wait_until(lambda: self.state(run)["type"] in ENDED, f"run {run} ends", seconds=240)
        return self.state(run)

    def completes(self, run: str) -> None:
        """Wait until a run has ended, and hold that it ended well."""
        state = self.wait_for_end(run)
        assert state["type"] == "COMPLETED", f"{state['message']}\n{self.log_of(run)}"

    def pods_of(self, run: str) -> list[Document]:
        """A run's Pods."""
        pods = self.cluster.list(f"/api/v1/namespaces/{self.namespace}/pods")
        return [one for one in pods if one["metadata"]["labels"].get("prefect.io/flow-run-id") == run]

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


def run_secret(postgres: PodPostgres) -> dict[str, str]:
    """What runs read by `env:`."""
    return {
        PASSWORD: postgres.server.password,
        "NIGHTSHIFT_TEST_SIGNING_KEY": SIGNING_KEY,
        "NIGHTSHIFT_TEST_S3_KEY": "testing",
        "NIGHTSHIFT_TEST_S3_SECRET": "testing-secret",
    }


def create_secrets(cluster: KubernetesClient, namespace: str, contents: dict[str, dict[str, str]]) -> None:
    """Make Secrets, by their names."""
    for name, content in contents.items():
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": content}
        cluster.create(f"/api/v1/namespaces/{namespace}/secrets", secret)


def pool_template(namespace: str, image: str) -> Document:
    """The shipped template, with this namespace and image."""
    template: Document = json.loads((FOLDER / "job-template.json").read_text())
    # Asking for less of the node's two processors than is shipped: other tests' Pods ask, too.
    for name, value in (("namespace", namespace), ("image", image), ("cpu_request", "100m")):
        template["variables"]["properties"][name]["default"] = value
    return template


def pod_deployments(folder: Path) -> Path:
    """Write a file with the deployments of prefect.yaml for the environment `pods`, which nothing starts by the clock; return its path."""
    document = yaml.safe_load(PREFECT_FILE.read_text())
    entries = [deployment_file(document, flow, "pods")[0]["deployments"][0] for flow in ("nightly-backup", "dr-drill")]
    assert not any(one.get("schedules") for one in entries)
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    return file
