"""nightshift installed on a real cluster as docs/kubernetes.md says, by all of its files: what GitHub delivers becomes one run, whichever Pods are killed meanwhile."""

import json
import os
import secrets
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
import tomli_w
import yaml

from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import free_port
from tasks.kubernetes_client import KubernetesClient
from tasks.postgres_binaries import installed_servers
from tests.cluster.test_kubernetes_manifests import served
from tests.fix_cluster import Removals, lab_program
from tests.fix_manifests import collection_of
from tests.fix_nightshift_image import USER
from tests.fix_object_store import S3Server
from tests.fix_pod_postgres import PodPostgres, serving_pods
from tests.fix_pod_runs import (
    Document,
    PodRuns,
    create_secrets,
    environment_of,
    exposed,
    pod_deployments,
    pool_template,
    run_secret,
)
from tests.fix_reader import Reader, this_shell
from tests.fix_redis import new_redis
from tests.fix_webhook import REPOSITORY_ID, SECRET, body_of, deployment, github_headers, release
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.platform, pytest.mark.timeout(900)]
PAGE = "kubernetes.md"
REPLICAS = {"server": 2, "services": 1, "worker": 1, "receiver": 1}
# What GitHub's events start in the environment `pods`.
TRIGGERS = (
    {"event": "deployment", "refs": ["main"], "github_environment": "staging", "flow": "nightly-backup"},
    {"event": "release", "refs": ["v*"], "flow": "dr-drill"},
)


@dataclass(frozen=True)
class Installation:
    """What was applied, and how it is reached: by the addresses of its Services, as an ingress controller reaches the receiver."""

    cluster: KubernetesClient
    namespace: str
    postgres: PodPostgres
    database: str
    login: tuple[str, str]

    def address(self, service: str, path: str = "") -> str:
        """A Service's."""
        spec = self.cluster.get(f"/api/v1/namespaces/{self.namespace}/services/nightshift-{service}")["spec"]
        return f"http://{spec['clusterIP']}:{spec['ports'][0]['port']}{path}"

    def pods(self, *components: str) -> list[Document]:
        """The Pods of components."""
        chosen = f"app.kubernetes.io/component in ({','.join(components)})"
        return list(self.cluster.list(f"/api/v1/namespaces/{self.namespace}/pods", labelSelector=chosen))

    def is_whole(self, *components: str) -> bool:
        """Whether each of these components has all of its Pods, ready."""
        ready = [
            pod["metadata"]["labels"]["app.kubernetes.io/component"]
            for pod in self.pods(*components)
            for one in pod.get("status", {}).get("conditions", ())
            if (one["type"], one["status"]) == ("Ready", "True") and "deletionTimestamp" not in pod["metadata"]
        ]
        return all(ready.count(one) == REPLICAS[one] for one in components)

    def wait_until_whole(self, *components: str) -> None:
        """Wait until they are."""
        wait_until(lambda: self.is_whole(*components), f"all of {components} are ready", seconds=300)

    def answers(self, service: str) -> bool:
        """Whether any Pod of a Service answers."""
        try:
            httpx.get(self.address(service), timeout=3, trust_env=False)
        except httpx.TransportError:
            return False
        return True

    def delete(self, *pods: Document) -> None:
        """Have Pods ended, as a node that is drained does."""
        for pod in pods:
            path = f"/api/v1/namespaces/{self.namespace}/pods/{pod['metadata']['name']}"
            self.cluster.delete(path, uid=pod["metadata"]["uid"])

    def kill(self, *pods: Document) -> None:
        """kill -9 to all processes of Pods, on their node, which is this machine; hold that there were some."""
        for pod in pods:
            uid = pod["metadata"]["uid"]
            found = [one for one in psutil.pids() if uid in cgroups_of(one).replace("_", "-") and is_nightshifts(one)]
            assert found, f"no process of {pod['metadata']['name']}"
            for one in found:
                os.kill(one, signal.SIGKILL)

    def deliver(self, event: str, body: bytes, secret: str = SECRET) -> int:
        """Deliver what GitHub sends; return the answer's status."""
        address = self.address("receiver", "/github/pods")
        headers = github_headers(body, event, secret)
        return httpx.post(address, content=body, headers=headers, timeout=30, trust_env=False).status_code

    @contextmanager
    def runs(self) -> Iterator[PodRuns]:
        """The Prefect server's API."""
        api = self.address("server", "/api")
        # A connection each time: one that is kept goes on to a Pod that has been killed.
        limits = httpx.Limits(max_keepalive_connections=0)
        with httpx.Client(base_url=api, auth=self.login, limits=limits, trust_env=False, timeout=30) as rest:
            yield PodRuns(self.cluster, self.namespace, rest, self.database)


def cgroups_of(process: int) -> str:
    try:
        return Path(f"/proc/{process}/cgroup").read_text()
    except OSError:
        return ""


def is_nightshifts(process: int) -> bool:
    """Not the one that holds the Pod's network."""
    try:
        return psutil.Process(process).uids().real == USER
    except psutil.NoSuchProcess:
        return False


def number_of(runs: PodRuns, flow: str) -> int:
    """How many runs of a flow there are, or were."""
    asked = {"flows": {"name": {"any_": [flow]}}}
    return int(runs.rest.post("/flow_runs/count", json=asked).raise_for_status().json())


def only_run(runs: PodRuns, flow: str) -> str:
    """The only run of a flow, once it is there."""
    wait_until(lambda: number_of(runs, flow) == 1, f"a run of {flow}", seconds=120)
    found = runs.rest.post("/flow_runs/filter", json={"flows": {"name": {"any_": [flow]}}}).raise_for_status().json()
    return str(found[0]["id"])


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    """Who follows the page, in a shell with kubectl and a `prefect` that knows no other server."""
    (tmp_path / "nightshift").symlink_to(CHECKOUT)
    own = this_shell()
    tools = f"{CHECKOUT / '.venv' / 'bin'}:{own['PATH']}:{lab_program('up.sh').parent / 'bin'}"
    return Reader(tmp_path, {**own, "PATH": tools, "PREFECT_HOME": str(tmp_path / "prefect")})


@pytest.fixture
def installation(  # noqa: PLR0917 - fixtures
    cluster: KubernetesClient,
    nightshift_image: str,
    s3_server: S3Server,
    bucket: str,
    reader: Reader,
    tmp_path: Path,
) -> Iterator[Installation]:
    """All files as they are shipped, but for namespace and image, with PostgreSQL, Redis and S3 of this machine; steps 1 to 4 of the page."""
    with ExitStack() as stack:
        postgres = stack.enter_context(serving_pods(installed_servers()[0].major))
        broker = new_redis(tmp_path)
        # As the page wants it.
        broker.limits = ("--appendonly", "yes", "--maxmemory-policy", "noeviction")
        broker.start()
        stack.callback(broker.stop)
        redis = stack.enter_context(exposed(broker.port))
        s3 = stack.enter_context(exposed(s3_server.port))
        removals = stack.enter_context(Removals(cluster))
        namespace = removals.namespace()
        environment = environment_of(postgres, f"http://{s3}", bucket)
        repository = {"id": REPOSITORY_ID, "repository": "acme/api", "triggers": list(TRIGGERS)}
        environment["webhook"] = {"secrets": ["env:NIGHTSHIFT_TEST_HOOK_SECRET"], "repositories": {"api": repository}}
        login = ("ops", secrets.token_hex(12))
        server = {
            "database-url": postgres.address(postgres.new_database()).replace("postgresql:", "postgresql+asyncpg:"),
            "redis-url": f"redis://:{broker.password}@{redis}/0",
        }
        contents = {
            "nightshift-prefect": {"auth-string": ":".join(login)},
            "nightshift-server": server,
            "nightshift-run": run_secret(postgres),
            "nightshift-receiver": {"NIGHTSHIFT_TEST_HOOK_SECRET": SECRET},
        }
        create_secrets(cluster, namespace, contents)
        (tmp_path / "environments").mkdir()
        (tmp_path / "environments" / "pods.toml").write_text(tomli_w.dumps(environment))
        removals.create("/api/v1/persistentvolumes", volume(stack, namespace))
        install(removals, namespace, nightshift_image, reader)
        found = Installation(cluster, namespace, postgres, environment["databases"]["app"]["name"], login)
        found.wait_until_whole("server", "services")
        deploy(found, nightshift_image, reader)
        found.wait_until_whole(*REPLICAS)
        yield found


def volume(stack: ExitStack, namespace: str) -> Document:
    """What a storage class would make for the receiver's inbox: a folder of this machine that its user owns."""
    inbox = Path("/var/tmp") / f"nightshift-test-inbox-{secrets.token_hex(4)}"
    inbox.mkdir()
    os.chown(inbox, USER, USER)
    stack.callback(shutil.rmtree, inbox, ignore_errors=True)
    spec = {
        "capacity": {"storage": "2Gi"},
        "accessModes": ["ReadWriteOnce"],
        "hostPath": {"path": str(inbox), "type": "Directory"},
        "claimRef": {"namespace": namespace, "name": "nightshift-receiver"},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": inbox.name}, "spec": spec}


def install(removals: Removals, namespace: str, image: str, reader: Reader) -> None:
    """The environments, and what kustomize makes of the files."""
    own = {"--namespace nightshift": f"--namespace {namespace}"}
    line = (
        "kubectl --namespace nightshift create configmap nightshift-environments --from-file=deployments/environments"
    )
    reader.types(PAGE, line, stands_for={**own, "deployments/environments": str(reader.root / "environments")})
    dry = {"kubectl apply -k": "kubectl kustomize"}
    text = reader.types(PAGE, "kubectl apply -k deployments/kubernetes", stands_for=dry)
    text = text.replace("namespace: nightshift\n", f"namespace: {namespace}\n").replace("nightshift:0.1.0", image)
    for document in yaml.safe_load_all(text):
        # The namespace is the test's own; without External Secrets the Secrets are made by hand.
        if document["kind"] not in {"Namespace", "ExternalSecret"}:
            removals.create(collection_of(document), served(removals.client, document))
    reader.types(PAGE, "kubectl --namespace nightshift rollout status deployment/nightshift-server", stands_for=own)


def deploy(installation: Installation, image: str, reader: Reader) -> None:
    """The pool and the deployments, from outside."""
    template = reader.root / "job-template.json"
    template.write_text(json.dumps(pool_template(installation.namespace, image)))
    port = free_port()
    own = {"--namespace nightshift": f"--namespace {installation.namespace}", "4200": f"{port}:4200"}
    line = "kubectl --namespace nightshift port-forward service/nightshift-server 4200"
    with reader.goes_on(PAGE, line, stands_for=own) as forward:
        forward.until_it_answers(f"http://127.0.0.1:{port}/api/health")
        export = "export PREFECT_API_URL=http://127.0.0.1:4200/api PREFECT_API_AUTH_STRING=user:password"
        here = {"127.0.0.1:4200": f"127.0.0.1:{port}", "user:password": ":".join(installation.login)}
        reader.types(PAGE, export, stands_for=here)
        pool = "prefect work-pool create nightshift_kubernetes --type kubernetes --base-job-template "
        shipped = "deployments/kubernetes/job-template.json"
        reader.types(PAGE, f"{pool}{shipped}", stands_for={shipped: str(template)})
        reader.types(PAGE, "prefect variable set nightshift_pool _kubernetes")
        file = pod_deployments(reader.root)
        reader.types(PAGE, "prefect --no-prompt deploy --all", stands_for={"--all": f"--prefect-file {file} --all"})


def test_what_is_delivered_is_done_once_whichever_pods_are_killed(
    installation: Installation, s3_server: S3Server, bucket: str
) -> None:
    here = installation
    body, drill = body_of(deployment(7)), body_of(release(8))
    assert here.deliver("deployment", body, "not the secret") == 401
    assert httpx.get(here.address("server", "/api/admin/version"), trust_env=False).status_code == 401

    # Delivered while no server answers; then all that heard of it is gone, and what is written down is in the inbox alone.
    with here.postgres.server.connect(here.database) as holder, holder.transaction():
        # A backup that waits for a lock is in the middle for as long as this holds it.
        holder.execute("LOCK TABLE account IN ACCESS EXCLUSIVE MODE")
        here.kill(*here.pods("server"))
        assert here.deliver("deployment", body) == 202
        assert not here.answers("server")
        here.delete(*here.pods("receiver"))
        here.kill(*here.pods("worker", "services"))
        wait_until(lambda: not here.is_whole("receiver"), "the receiver is away", seconds=60)
        here.wait_until_whole(*REPLICAS)
        assert here.deliver("deployment", body) == 200
        with here.runs() as runs:
            backup = only_run(runs, "nightly-backup")
            waiting = "the backup waits for the lock"
            wait_until(lambda: "lock" in runs.waits_of(here.postgres), waiting, seconds=240)

        # In its middle: the Pods of all parts, but for one server.
        here.delete(here.pods("server")[0], *here.pods("services", "worker", "receiver"))
        wait_until(lambda: not here.is_whole("worker", "receiver"), "they are away", seconds=60)
    here.wait_until_whole(*REPLICAS)
    with here.runs() as runs:
        runs.completes(backup)
        assert here.deliver("deployment", body) == 200
        assert here.deliver("release", drill) == 202
        runs.completes(only_run(runs, "dr-drill"))
        assert here.deliver("release", drill) == 200
        assert only_run(runs, "nightly-backup") == backup
        assert runs.rest.get(f"/flow_runs/{backup}").json()["run_count"] == 1
    jobs = here.cluster.list(f"/apis/batch/v1/namespaces/{here.namespace}/jobs")
    assert len(list(jobs)) == 2
    listed = [item["Key"] for item in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len([key for key in listed if key.endswith("/manifest.json")]) == 1
    assert len([key for key in listed if key.endswith("/state/proven.json")]) == 1
