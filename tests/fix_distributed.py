"""A Prefect server in several parts, as docs/operating.md sets it up: two API servers behind HAProxy, two service processes, PostgreSQL, Redis, and two workers."""

from __future__ import annotations

import secrets
import shutil
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import HOST
from deployments.local.prefect_server import WORK_POOL, prefect_environment
from deployments.local.service import Service
from tests.fix_machine import release_deployments
from tests.fix_postgres import PostgresServer, end_server, make_server
from tests.fix_redis import RedisServer, new_redis
from tests.leave_out import leave_out
from tests.ports import free_port
from tests.waiting import wait_until

SETTINGS = CHECKOUT / "deployments" / "distributed"
ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


def settings_file(file: Path) -> dict[str, str]:
    """The variables that a file sets."""
    lines = [line for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


@dataclass
class Distributed:
    """The parts; each is a process of its own."""

    folder: Path
    variables: dict[str, str]
    servers: list[Service]
    services: list[Service]
    workers: list[Service]
    balancer: Service
    database: PostgresServer
    broker: RedisServer
    rest: httpx.Client

    def parts(self) -> list[Service]:
        """All, in the order in which they are ended."""
        return [*self.workers, self.balancer, *self.services, *self.servers]

    def run(self, *arguments: str) -> None:
        """Run a `prefect` command to its end."""
        Service(
            name=f"prefect {arguments[0]}",
            argv=[sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            environment=self.variables,
            log=self.folder / "commands.log",
            folder=CHECKOUT,
        ).run_to_end(170)

    def start(self) -> None:
        """Start all, with the deployments of `stage`."""
        self.run("server", "database", "upgrade", "-y")
        for part in (*self.servers, *self.services, self.balancer):
            part.start()
        wait_until(self._ready, "both API servers are ready", seconds=150)
        document = yaml.safe_load(release_deployments(self.folder, "nightly-backup").read_text())
        (nightly,) = [one for one in document["deployments"] if one["entrypoint"].endswith("nightly_backup")]
        probe = {
            "name": "probe-well",
            "entrypoint": "tests.probe_flows.pretend_backup",
            "parameters": {"environment": "probe-well"},
        }
        document["deployments"].append({**nightly, **probe, "schedules": []})
        (self.folder / "prefect.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
        self.run("work-pool", "create", WORK_POOL, "--type", "process")
        self.run("deploy", "--prefect-file", str(self.folder / "prefect.yaml"), "--all")
        for worker in self.workers:
            worker.start()

    def _ready(self) -> bool:
        for part in self.parts():
            assert part.process is None or part.running, part.death()
        addresses = [
            self.variables["PREFECT_SERVER_ONE"],
            self.variables["PREFECT_SERVER_TWO"],
            self.variables["PREFECT_LISTEN"],
        ]
        try:
            return all(httpx.get(f"http://{one}/api/ready", timeout=5, trust_env=False).is_success for one in addresses)
        except httpx.TransportError:
            return False

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """A request, asked again as Prefect's client does when the server that had it died."""
        answers: list[httpx.Response] = []

        def taken() -> bool:
            try:
                answers.append(self.rest.request(method, path, json=body))
            except httpx.TransportError:
                return False
            return answers[-1].status_code not in {502, 503, 504}

        wait_until(taken, f"a server takes {path}", seconds=60)
        answer = answers[-1].raise_for_status()
        return answer.json() if answer.content else None

    def post_run(self, flow: str, parameters: dict[str, Any]) -> str:
        """Start FLOW/stage and return the run's id."""
        deployment = self.ask("GET", f"/deployments/name/{flow}/stage")["id"]
        body = {"parameters": parameters, "idempotency_key": secrets.token_hex(8)}
        return str(self.ask("POST", f"/deployments/{deployment}/create_flow_run", body)["id"])

    def state(self, run_id: str) -> dict[str, Any]:
        """A run's state."""
        found: dict[str, Any] = self.ask("GET", f"/flow_runs/{run_id}")["state"]
        return found

    def runs(self, flow: str, deployment: str) -> list[dict[str, Any]]:
        """The runs of a deployment."""
        query = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": [deployment]}}}
        found: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", query)
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        """The events of a name that were kept."""
        found: list[dict[str, Any]] = self.ask(
            "POST", "/events/filter", {"filter": {"event": {"name": [name]}}, "limit": 50}
        )["events"]
        return found

    def worker_of(self, run_id: str) -> Service:
        """The worker below which a run is carried out."""
        for worker in self.workers:
            if worker.process is not None and worker.running:
                for below in psutil.Process(worker.process.pid).children(recursive=True):
                    # One that has just ended is not it.
                    with suppress(psutil.Error):
                        if below.environ().get("PREFECT__FLOW_RUN_ID") == run_id:
                            return worker
        raise AssertionError(f"no worker has run {run_id}")


def kill(part: Service) -> None:
    """SIGKILL a part's process, and nothing below it."""
    assert part.process is not None
    part.process.send_signal(signal.SIGKILL)
    part.process.wait(30)


@pytest.fixture
def distributed(
    request: pytest.FixtureRequest, tmp_path: Path, kubernetes: object, postgres_15: PostgresServer
) -> Iterator[Distributed]:
    """The parts, not started yet. What the tests' environment has set when they are, they have too: KUBECONFIG and the secrets of `stage`.

    Given the parameter "own database", the Prefect server's PostgreSQL is a server of its own, which forgets nothing that it has confirmed when it is killed.
    """
    if getattr(request, "param", "") != "own database":
        yield from _distributed(tmp_path, postgres_15)
        return
    own = make_server(15, synchronous_commit="on", max_connections="100")
    try:
        yield from _distributed(tmp_path, own)
    finally:
        end_server(own)


def _distributed(tmp_path: Path, database: PostgresServer) -> Iterator[Distributed]:
    haproxy = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if haproxy is None:
        leave_out("no haproxy")
    name, port, ports = f"prefect_{secrets.token_hex(4)}", free_port(), [free_port(), free_port()]
    database.execute("postgres", f"CREATE DATABASE {name}")
    broker = new_redis(tmp_path)
    broker.limits = ("--appendonly", "yes")
    broker.start()
    password = secrets.token_hex(12)
    for folder in ("home", "temporary"):
        (tmp_path / folder).mkdir()
    variables = {
        **prefect_environment(
            tmp_path / "home", tmp_path / "temporary", f"http://{HOST}:{port}/api", f"ops:{password}"
        ),
        **settings_file(SETTINGS / "server.env"),
        "PREFECT_SERVER_API_AUTH_STRING": f"ops:{password}",
        "PREFECT_SERVER_DATABASE_CONNECTION_URL": f"postgresql+asyncpg://postgres:{database.password}@{HOST}:{database.port}/{name}",
        "PREFECT_REDIS_MESSAGING_URL": broker.url,
        "PREFECT_REDIS_WORKER_CLEANUP_QUEUE_URL": broker.url,
        "PREFECT_SERVER_DOCKET_URL": broker.url,
        "PREFECT_LISTEN": f"{HOST}:{port}",
        "PREFECT_SERVER_ONE": f"{HOST}:{ports[0]}",
        "PREFECT_SERVER_TWO": f"{HOST}:{ports[1]}",
        "PYTHONPATH": str(CHECKOUT),
    }

    def part(name: str, *argv: str) -> Service:
        return Service(name, argv, variables, tmp_path / f"{name}.log", CHECKOUT, grace_seconds=5)

    prefect = (sys.executable, "-m", "prefect")
    found = Distributed(
        folder=tmp_path,
        variables=variables,
        servers=[
            part(f"api-{port}", *prefect, "server", "start", "--no-services", "--host", HOST, "--port", str(port))
            for port in ports
        ],
        services=[part(f"services-{number}", *prefect, "server", "services", "start") for number in (1, 2)],
        workers=[
            part(
                f"worker-{number}",
                *prefect,
                "worker",
                "start",
                "--pool",
                WORK_POOL,
                "--type",
                "process",
                "--name",
                f"worker-{number}",
            )
            for number in (1, 2)
        ],
        database=database,
        broker=broker,
        balancer=part("haproxy", haproxy, "-db", "-f", str(SETTINGS / "haproxy.cfg")),
        rest=httpx.Client(base_url=f"http://{HOST}:{port}/api", auth=("ops", password), trust_env=False, timeout=30),
    )
    try:
        with found.rest:
            yield found
    finally:
        for one in found.parts():
            one.grace_seconds = 1
            one.stop()
        for process in psutil.process_iter():
            # A run whose worker was killed.
            if is_of(process, str(tmp_path / "home")):
                process.kill()
        broker.stop()
        database.execute("postgres", f"DROP DATABASE {name} WITH (FORCE)")


def is_of(process: psutil.Process, home: str) -> bool:
    """Whether a process has this PREFECT_HOME."""
    try:
        return process.environ().get("PREFECT_HOME") == home
    except psutil.Error:
        return False
