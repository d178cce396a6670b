"""An environment that releases, `stage`: an application of two Pods and what belongs to it, a bucket, and the flows run in this process.

The same on a real cluster (tests/cluster) and on the small API of the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from prefect.client.schemas.objects import State

from core.environment import Environment
from core.evidence import Report
from core.fence import Document
from core.release_journal import Journal
from flows.release import release
from flows.release_recovery import release_recovery
from flows.rollback import rollback
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectStore
from tasks.release_journal import Journals
from tasks.release_lease import Lease
from tasks.release_run import release_of
from tasks.secrets import signing_keys
from tests.fix_kubernetes import KubernetesApi
from tests.fix_kubernetes_controllers import Controllers
from tests.fix_object_store import S3Server
from tests.waiting import wait_until

# The environment's database is nobody's: there is no backup of it.
SKIPPED = {"recovery-point": "there is no database in this test"}
COMMIT, NEXT_COMMIT = "1" * 40, "2" * 40


@dataclass
class Stage:
    """The environment `stage` and what became of it."""

    folder: Path
    settings: dict[str, Any]
    client: KubernetesClient
    namespace: str
    control: str
    image: Callable[[str], str]
    objects: dict[str, Document] = field(default_factory=dict)
    # Of the small API.
    controllers: Controllers | None = None

    def digest(self, image: str) -> str:
        """An image's digest."""
        return self.image(image).rpartition("@")[2]

    def write(self) -> None:
        """Write the environment's file, at once: a run in another process may be reading it."""
        made = self.folder / "stage.toml.new"
        made.write_text(tomli_w.dumps(self.settings))
        made.replace(self.folder / "stage.toml")

    def release(self, image: str, commit: str = NEXT_COMMIT, **parameters: Any) -> State[Any]:
        """Run the flow in this process and return its final state."""
        self.write()
        given = {"migrate": False, "skip_checks": SKIPPED, "requested_by": "the test", **parameters}
        return release("stage", self.digest(image), commit, **given, return_state=True)

    def recover(self, **parameters: Any) -> State[Any]:
        """Run the recovery in this process and return its final state."""
        self.write()
        return release_recovery("stage", **parameters, return_state=True)

    def run_rollback(self, reason: str, **parameters: Any) -> State[Any]:
        """Run the rollback in this process and return its final state."""
        self.write()
        return rollback("stage", reason, **parameters, return_state=True)

    @property
    def environment(self) -> Environment:
        """As the flows see it."""
        self.write()
        return load_environment("stage")

    def deployment(self, name: str = "hello") -> Document:
        """A Deployment as it is."""
        return self.client.get(f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{name}")

    def selector(self, name: str = "hello") -> dict[str, str]:
        """The selector of a Service."""
        found: dict[str, str] = self.client.get(f"/api/v1/namespaces/{self.namespace}/services/{name}")["spec"][
            "selector"
        ]
        return found

    def image_of(self, name: str = "hello") -> str:
        """The image of its container."""
        image: str = self.deployment(name)["spec"]["template"]["spec"]["containers"][0]["image"]
        return image

    def lease(self) -> Document | None:
        """The lease as it is."""
        return Lease(self.client, release_of(self.environment), "stage").read()

    def lease_holder(self) -> str:
        """Who holds the lease; "" when nobody does."""
        lease = self.lease()
        return str(((lease or {}).get("spec") or {}).get("holderIdentity") or "")

    def journals(self) -> list[Journal]:
        """All journals, verified, oldest first."""
        environment = self.environment
        journals = Journals(self.client, release_of(environment), "stage", signing_keys(environment))
        documents = self.client.list(
            f"/api/v1/namespaces/{self.control}/configmaps", labelSelector="nightshift.dev/journal"
        )
        # Kubernetes tells when one was made by the second: two releases may come within one.
        return sorted(map(journals.parse, documents), key=lambda one: one.entries[0].at)

    def reports(self) -> list[Report]:
        """All reports of the chain, in order."""
        environment = self.environment
        store, keys = ObjectStore.open(environment), signing_keys(environment)
        numbers = sorted(int(Path(one.key).stem) for one in store.list(f"{environment.prefix}/evidence/"))
        return [read_report(store, environment, keys, number)[1] for number in numbers]


def serving(stage: Stage) -> str:
    """The image of the Pods that the Service's selector takes."""
    selector = stage.selector()
    pods = [
        one
        for one in stage.client.list(f"/api/v1/namespaces/{stage.namespace}/pods")
        if selector.items() <= one["metadata"]["labels"].items()
    ]
    (image,) = {one["spec"]["containers"][0]["image"] for one in pods if not one["metadata"].get("deletionTimestamp")}
    return str(image)


def release_settings(bucket: str, endpoint: str, namespace: str, control: str, repository: str) -> dict[str, Any]:
    """The environment's file, without approval, backup and migration."""
    return {
        "store": {
            "bucket": bucket,
            "endpoint_url": endpoint,
            "access_key_id": "env:NIGHTSHIFT_TEST_S3_KEY",
            "secret_access_key": "env:NIGHTSHIFT_TEST_S3_SECRET",
        },
        "signing": {"key": "env:NIGHTSHIFT_TEST_SIGNING_KEY"},
        "objectives": {"proof_age_hours": 0},
        "databases": {"app": {"host": "127.0.0.1", "port": 9, "name": "app", "user": "nobody"}},
        "release": {
            "namespace": namespace,
            "control_namespace": control,
            "repository": repository,
            "registry": {"kind": "none"},
            "approval": False,
            "workloads": [{"name": "hello"}],
        },
    }


@pytest.fixture
def stage_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the environment's file lies."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", "a signing key of more than thirty-two characters")
    return tmp_path


def hello_documents(image: str) -> list[Document]:
    """The application of the tests: two Pods, a Service, a worker, a CronJob."""
    labels = {"app": "hello"}
    port = {"name": "http", "containerPort": 8080}
    container = {
        "name": "hello",
        "image": image,
        "ports": [port],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}},
    }
    worker = {"name": "work", "image": image}
    job = {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [worker]}}}}
    return [
        _deployment("hello", labels, container),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "hello"},
            "spec": {
                "selector": labels,
                "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
            },
        },
        _deployment("worker", {"app": "worker"}, worker),
        {
            "apiVersion": "batch/v1",
            "kind": "CronJob",
            "metadata": {"name": "nightly", "annotations": {"nightshift.dev/commit": COMMIT}},
            "spec": {"schedule": "0 1 * * *", "suspend": False, "jobTemplate": job},
        },
    ]


def _deployment(name: str, labels: dict[str, str], container: Document) -> Document:
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "annotations": {"nightshift.dev/commit": COMMIT}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "progressDeadlineSeconds": 3000,
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    }


@contextmanager
def small_stage(kubernetes: KubernetesApi, folder: Path, endpoint: str, bucket: str) -> Iterator[Stage]:
    """`hello` with a worker and a CronJob at their first version, on the small API of the tests. Images by name: v1, v2, and what a test marks as bad."""
    names = ("shop", "nightshift")
    for name in names:
        kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    settings = release_settings(bucket, endpoint, *names, "registry.test/hello")
    settings["release"] |= {
        "settle_seconds": 0,
        "workloads": [
            {"name": "hello"},
            {"name": "worker", "role": "worker"},
            {"name": "nightly", "kind": "CronJob", "role": "worker"},
        ],
    }
    with KubernetesClient.open(None) as client:
        found = Stage(folder, settings, client, *names, _image)
        for document in hello_documents(_image("v1")):
            client.create(find_kind(client, document["kind"]).path("shop"), document)
        controllers = found.controllers = kubernetes.run_controllers()
        controllers.mark(b"bad".hex(), "crash")
        wait_until(lambda: found.deployment("worker").get("status", {}).get("availableReplicas") == 2, "worker")
        wait_until(lambda: found.deployment().get("status", {}).get("availableReplicas") == 2, "hello")
        yield found
        controllers.stop()


@pytest.fixture
def stage(  # noqa: PLR0917 - fixtures
    kubernetes: KubernetesApi,
    stage_folder: Path,
    prefect_server: str,
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """A small_stage, with a Prefect server for flows that run in this process."""
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    with small_stage(kubernetes, stage_folder, s3_server.endpoint, bucket) as found:
        yield found


def _image(name: str) -> str:
    """The image of a version: its digest begins with the name's first letters, as far as those are hexadecimal."""
    return f"registry.test/hello@sha256:{name.encode().hex():0<64}"
