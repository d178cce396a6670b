"""The server of a machine as `nightshift up` keeps it running, in a data folder of the tests' own, for an environment `stage` that releases and listens to GitHub."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import yaml

from deployments.command.deploying import PREFECT_FILE, RELEASING, WATCHING, deployment_file
from deployments.local.data_folder import CHECKOUT
from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import Supervised, marked
from tests.fix_release import NEXT_COMMIT, SKIPPED
from tests.fix_webhook import REPOSITORY_ID, SECRET, body_of, deployment, github_headers
from tests.ports import free_port
from tests.waiting import PREFECT_SECONDS, wait_until

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


@dataclass
class Machine:
    """The server; `root` holds its data and its environments."""

    root: Path
    port: int
    hook_port: int
    variables: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> ServerFolder:
        """Where it keeps everything."""
        return ServerFolder(self.root / "data" / "server")

    def nightshift(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command as a person does."""
        command = [Path(sys.executable).with_name("nightshift"), *arguments]
        return subprocess.run(
            command, cwd=CHECKOUT, env=self.shell, capture_output=True, text=True, check=False, timeout=400
        )

    def up(self) -> str:
        """Start it; return what it said."""
        done = self.nightshift("up", "--port", str(self.port), "--listen", f"127.0.0.1:{self.hook_port}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def shell(self) -> dict[str, str]:
        """The variables of a person's shell."""
        own = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        return {**own, **self.variables, "COLUMNS": "400"}

    def prefect(self, *arguments: str) -> None:
        """Run `prefect` with what client.env says."""
        command = (
            f'. {self.folder.client_variables} && exec {Path(sys.executable).with_name("prefect")} --no-prompt "$@"'
        )
        environment = {**self.shell, "PREFECT_HOME": str(self.root / "client")}
        done = subprocess.run(
            ["sh", "-c", command, "sh", *arguments],
            cwd=CHECKOUT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def processes(self) -> dict[str, int]:
        """The programs that run, by name."""
        return {one.name: one.pid for one in Supervised(self.folder).programs() if one.pid}

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """A request to the server's API. A server on SQLite answers 503 when two write at once: again."""
        user, _, password = self.folder.auth_string().partition(":")
        answers: list[httpx.Response] = []

        def taken() -> bool:
            address = f"http://127.0.0.1:{self.port}/api{path}"
            answers.append(
                httpx.request(
                    method, address, json=body, auth=(user, password), timeout=PREFECT_SECONDS, trust_env=False
                )
            )
            return answers[-1].status_code != httpx.codes.SERVICE_UNAVAILABLE

        wait_until(taken, f"the server takes {path}")
        return answers[-1].raise_for_status()

    def answers(self) -> bool:
        """Whether the server answers to its password."""
        try:
            return self.ask("GET", "/admin/version").is_success
        except httpx.HTTPError:
            return False

    def listens(self) -> bool:
        """Whether the receiver answers."""
        try:
            return httpx.get(f"http://127.0.0.1:{self.hook_port}/healthz", timeout=10, trust_env=False).is_success
        except httpx.TransportError:
            return False

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """The runs of a flow for `stage`, but those that a schedule has planned."""
        query = {"flows": {"name": {"any_": [flow]}}, "deployments": {"name": {"any_": ["stage"]}}}
        found: list[dict[str, Any]] = self.ask("POST", "/flow_runs/filter", query).json()
        return [one for one in found if one["start_time"] or not one["auto_scheduled"]]

    def planned(self) -> list[dict[str, Any]]:
        """The ticks that are planned, in order."""
        query = {
            "flows": {"name": {"any_": ["post-deploy-watch"]}},
            "flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}},
            "sort": "EXPECTED_START_TIME_ASC",
        }
        return [one for one in self.ask("POST", "/flow_runs/filter", query).json() if one["auto_scheduled"]]

    def wait_for(self, run_id: str, *types: str) -> dict[str, Any]:
        """Wait until a run is in a state of one of these types (else: has ended), and return the state."""
        seen: list[dict[str, Any]] = [{}]

        def there() -> bool:
            seen.append(self.ask("GET", f"/flow_runs/{run_id}").json()["state"])
            return seen[-1]["type"] in (set(types) or ENDED)

        wait_until(there, f"run {run_id} is {types or 'over'}", seconds=150)
        return seen[-1]

    def deliver(self, number: int) -> httpx.Response:
        """Deliver a `deployment` of GitHub's."""
        body = body_of(deployment(number, sha=NEXT_COMMIT))
        address = f"http://127.0.0.1:{self.hook_port}/github/stage"
        return httpx.post(
            address, content=body, headers=github_headers(body, "deployment", SECRET), timeout=30, trust_env=False
        )


def webhook_settings(image: str) -> dict[str, Any]:
    """The table [webhook]: a deployment on GitHub releases this image."""
    trigger = {
        "event": "deployment",
        "refs": ["main"],
        "github_environment": "staging",
        "take": {"commit": "commit", "requested_by": "actor"},
        "fixed": {"image": image, "migrate": False, "skip_checks": SKIPPED},
    }
    repository = {"id": REPOSITORY_ID, "repository": "acme/api", "triggers": [trigger]}
    return {"secrets": ["env:NIGHTSHIFT_TEST_HOOK_SECRET"], "repositories": {"api": repository}}


def release_deployments(folder: Path, *more: str) -> Path:
    """Given a folder, write the prefect.yaml of a releasing environment `stage` (and further flows), its sweeps switched off, and return its path."""
    document = yaml.safe_load(PREFECT_FILE.read_text())
    entries = [deployment_file(document, flow, "stage")[0]["deployments"][0] for flow in (*RELEASING, *WATCHING, *more)]
    for entry in entries:
        entry["schedules"] = [{**one, "active": False} for one in entry["schedules"]]
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
    return file


def release_of_run(run_id: str) -> str:
    """The id of the release that a run is."""
    return f"r-{run_id.replace('-', '')[:12]}"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    """The server, up: one a module."""
    # Short, for the socket's name.
    root = Path(tempfile.mkdtemp(prefix="ns-up-", dir="/tmp"))
    for name in ("data", "environments"):
        (root / name).mkdir()
    for template in (CHECKOUT / ".nightshift").glob("prefect-*.db"):
        shutil.copy(template, root / "data")
    found = Machine(root, free_port(), free_port())
    found.variables = {
        "NIGHTSHIFT_DATA": str(root / "data"),
        "NIGHTSHIFT_ENVIRONMENTS": str(root / "environments"),
        "NIGHTSHIFT_TEST_HOOK_SECRET": SECRET,
        "NIGHTSHIFT_TEST_S3_KEY": "testing",
        "NIGHTSHIFT_TEST_S3_SECRET": "testing-secret",
        "NIGHTSHIFT_TEST_SIGNING_KEY": "a signing key of more than thirty-two characters",
        "KUBECONFIG": str(root / "kubeconfig"),
    }
    try:
        yield found
    finally:
        found.nightshift("down", "--wait", "0")
        for process in marked(found.folder):
            process.kill()
        psutil.wait_procs(marked(found.folder), 10)
        shutil.rmtree(root, ignore_errors=True)
