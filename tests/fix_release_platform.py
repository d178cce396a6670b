"""Releases through the real entry point: a Prefect server, a worker and the deployments of prefect.yaml for an environment `stage`, on a real cluster."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from deployments.command.automations import ensure_automations
from deployments.command.deploying import PREFECT_FILE, RECOVERY, RELEASING, WATCH, WATCHING, deployment_file
from deployments.local.data_folder import DataFolder
from deployments.local.prefect_server import PrefectServer
from deployments.local.service import Service
from tasks.kubernetes_client import KubernetesClient
from tests.fix_cluster import Removals, image_turn, lab_program
from tests.fix_lab_stage import create_hello
from tests.fix_object_store import S3Server
from tests.fix_platform import CHECKOUT
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage, release_settings
from tests.waiting import PREFECT_SECONDS, wait_until

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class ReleasePlatform:
    """Server and worker, and what a webhook's receiver would ask of the server."""

    folder: Path
    prefect: PrefectServer
    variables: dict[str, str]
    worker: Service
    client: SyncPrefectClient
    rest: httpx.Client

    def post_release(self, image: str, key: str, environment: str = "stage", **more: Any) -> dict[str, Any]:
        """Ask for a release as a webhook's receiver does: by the deployment's name, with an idempotency key. Return the answer."""
        parameters = {
            "image": image.rpartition("@")[2],
            "commit": NEXT_COMMIT,
            "migrate": False,
            "skip_checks": SKIPPED,
            "requested_by": "a webhook",
            **more,
        }
        return self._post("release", environment, {"parameters": parameters, "idempotency_key": key})

    def shell(self, folder: Path) -> dict[str, str]:
        """The variables of a person's shell who has this server, and may do what the worker may."""
        server = {"PREFECT_API_URL": self.prefect.api_url, "PREFECT_API_AUTH_STRING": self.prefect.auth_string}
        return {**self.variables, **server, "PREFECT_HOME": str(folder), "NIGHTSHIFT_DATA": str(folder)}

    def post_rollback(self, reason: str) -> dict[str, Any]:
        """Ask for the newest release to be taken back, as a person does from the form."""
        body = {"parameters": {"reason": reason, "requested_by": "ada"}, "idempotency_key": secrets.token_hex(8)}
        return self._post("rollback", "stage", body)

    def post_recovery(self) -> dict[str, Any]:
        """Start a recovery as the sweep does."""
        return self._post(RECOVERY, "stage", {"idempotency_key": secrets.token_hex(8)})

    def post_tick(self, release_id: str) -> dict[str, Any]:
        """Look at a release's watch now, as a tick of its schedule does each five minutes."""
        body = {"parameters": {"release_id": release_id}, "idempotency_key": secrets.token_hex(8)}
        return self._post(WATCH, "stage", body)

    def _post(self, flow: str, environment: str, body: dict[str, Any]) -> dict[str, Any]:
        """Make a run. A server on SQLite answers 503 when two write at once: again, with the same key."""
        found = self.rest.get(f"/deployments/name/{flow}/{environment}").raise_for_status().json()
        answers: list[httpx.Response] = []

        def made() -> bool:
            answers.append(self.rest.post(f"/deployments/{found['id']}/create_flow_run", json=body))
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(made, "the server takes the run")
        document: dict[str, Any] = answers[-1].raise_for_status().json()
        return document

    def state(self, run_id: str) -> dict[str, Any]:
        """A run's state; empty while the server does not answer."""
        try:
            answer = self.rest.get(f"/flow_runs/{run_id}")
        except httpx.TransportError:
            return {}
        state: dict[str, Any] = answer.json().get("state") or {} if answer.is_success else {}
        return state

    def wait_for_end(self, run_id: str, seconds: float = 120) -> dict[str, Any]:
        """Wait until a run has ended, and return its state."""
        wait_until(lambda: self.state(run_id).get("type") in ENDED, f"run {run_id} ends", seconds=seconds)
        return self.state(run_id)

    def runs_of(self, flow: str, environment: str = "stage") -> list[dict[str, Any]]:
        """The runs of a deployment that were not made by its schedule or have begun, oldest first."""
        query = {
            "flows": {"name": {"any_": [flow]}},
            "deployments": {"name": {"any_": [environment]}},
            "sort": "START_TIME_ASC",
        }
        found: list[dict[str, Any]] = self.rest.post("/flow_runs/filter", json=query).raise_for_status().json()
        return [one for one in found if one["start_time"] or not one["auto_scheduled"]]

    def process_of(self, run_id: str) -> psutil.Process:
        """The process in which a run is carried out."""

        def found() -> list[psutil.Process]:
            below = psutil.Process(os.getpid()).children(recursive=True)
            return [one for one in below if _variable(one, "PREFECT__FLOW_RUN_ID") == run_id]

        wait_until(lambda: bool(found()), f"run {run_id} has a process", seconds=60)
        return found()[0]

    def kill(self, run_id: str) -> float:
        """SIGKILL a run's process; return when."""
        self.process_of(run_id).send_signal(signal.SIGKILL)
        return time.time()

    def kill_with_worker(self, run_id: str) -> float:
        """SIGKILL worker and run at once, so that nobody is left who could tell the server; return when."""
        process = self.process_of(run_id)
        assert self.worker.process is not None
        below = psutil.Process(self.worker.process.pid).children(recursive=True)
        worker = [one for one in below if one.pid != process.pid and "worker" in one.cmdline()]
        for one in (*worker, process):
            one.send_signal(signal.SIGKILL)
        self.worker.process.wait(30)
        return time.time()

    def sweep(self, *, on: bool) -> None:
        """Switch the sweep's schedule."""
        deployment = self.client.read_deployment_by_name(f"{RECOVERY}/stage")
        (schedule,) = deployment.schedules
        self.client.update_deployment_schedule(deployment.id, schedule.id, active=on)


def _variable(process: psutil.Process, name: str) -> str | None:
    try:
        return process.environ().get(name)
    except psutil.Error:
        return None


def stage_prefect_file(folder: Path) -> Path:
    """Given a folder, write the prefect.yaml of the environments `stage` and `bare` as a first release deploys them; their sweeps are switched off."""
    document = yaml.safe_load(PREFECT_FILE.read_text())
    entries = [
        deployment_file(document, flow, environment)[0]["deployments"][0]
        for environment in ("stage", "bare")
        for flow in (*RELEASING, *WATCHING)
    ]
    for entry in entries:
        entry["schedules"] = [{**one, "active": False} for one in entry["schedules"]]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    return file


@pytest.fixture(scope="module")
def release_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasePlatform]:
    """The platform, with the environments' files in its folder `environments`."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster")
    root = tmp_path_factory.mktemp("release-platform")
    environments = root / "environments"
    environments.mkdir()
    data = DataFolder(root / "data")
    data.claim()
    prefect = PrefectServer(data, preferred_port=0)
    variables = {
        "PYTHONPATH": str(CHECKOUT),
        "NIGHTSHIFT_ENVIRONMENTS": str(environments),
        "NIGHTSHIFT_TEST_SIGNING_KEY": "a signing key of more than thirty-two characters",
        "NIGHTSHIFT_TEST_S3_KEY": "testing",
        "NIGHTSHIFT_TEST_S3_SECRET": "testing-secret",
        "KUBECONFIG": os.environ["KUBECONFIG"],
    }
    worker = prefect.worker(variables)
    client = SyncPrefectClient(prefect.api_url, auth_string=prefect.auth_string, httpx_settings={"trust_env": False})
    rest = httpx.Client(
        base_url=prefect.api_url, auth=(prefect.user, prefect.password), trust_env=False, timeout=PREFECT_SECONDS
    )
    try:
        prefect.start()
        prefect.wait_until_ready()
        prefect.deploy(variables, prefect_file=stage_prefect_file(root), names="*/*")
        worker.start()
        with client, rest:
            ensure_automations(client)
            yield ReleasePlatform(environments, prefect, variables, worker, client, rest)
    finally:
        worker.stop()
        prefect.service.stop()
        data.release()


Hello = Callable[..., str]


@pytest.fixture(scope="module")
def hello() -> Hello:
    """Make an image of the lab's application, once each, and return its name by digest."""
    program = lab_program("apps/hello/build.sh")
    made: dict[tuple[str, ...], str] = {}

    def build(version: str, *options: str) -> str:
        if (version, *options) not in made:
            command = [program, f"platform-{version}", *options]
            with image_turn():
                told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
            made[version, *options] = next(line for line in told.split() if "@sha256:" in line)
        return made[version, *options]

    return build


@pytest.fixture
def platform_stage(  # noqa: PLR0917 - fixtures
    cluster: KubernetesClient,
    release_platform: ReleasePlatform,
    hello: Hello,
    s3_server: S3Server,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Stage]:
    """`hello` at its first version, rolled out, in namespaces of the test's own; and the environment `stage` that releases it."""
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(release_platform.folder))
    monkeypatch.setenv("NIGHTSHIFT_TEST_SIGNING_KEY", release_platform.variables["NIGHTSHIFT_TEST_SIGNING_KEY"])
    mark = secrets.token_hex(4)
    with Removals(cluster) as removals:
        names = [removals.namespace(f"nightshift-test-{part}{mark}") for part in ("", "control-")]
        settings = release_settings(bucket, s3_server.endpoint, *names, "localhost/hello")
        stage = Stage(release_platform.folder, settings, cluster, *names, hello)
        stage.write()
        create_hello(cluster, names[0], hello("1"))
        wait_until(
            lambda: stage.deployment().get("status", {}).get("availableReplicas") == 2, "hello is there", seconds=120
        )
        yield stage
