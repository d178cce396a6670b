"""A whole platform for tests, as `nightshift try` starts it: one a session. Tests that use it belong to one worker: `xdist_group("platform")`."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient

from deployments.command.prefect_api import server_of
from deployments.local.data_folder import CHECKOUT
from deployments.local.platform import Platform

PROBES = ("probe-well", "probe-fails", "probe-crashes", "probe-sleeps")
NightshiftCommand = Callable[..., "subprocess.Popen[str]"]


def write_prefect_file(folder: Path, *, probes_only: bool = False) -> Path:
    """Given a folder, write a prefect.yaml of the checkout's `local` deployments and of the probes (tests/probe_flows.py), and return its path."""
    document: dict[str, Any] = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
    local = next(entry for entry in document["deployments"] if entry["name"] == "local")
    probes = [
        {
            **local,
            "name": name,
            "entrypoint": "tests.probe_flows.pretend_backup",
            "parameters": {"environment": name},
            "schedules": [],
        }
        for name in PROBES
    ]
    nightly = {"slug": "nightly", "cron": "0 2 * * *", "timezone": "Europe/Berlin"}
    probes.append({**probes[0], "name": "probe-scheduled", "schedules": [nightly]})
    # All other runs are started by a test, not by the clock.
    own = (
        []
        if probes_only
        else [{**entry, "schedules": []} for entry in document["deployments"] if entry["name"] == "local"]
    )
    file = folder / "prefect.yaml"
    file.write_text(yaml.safe_dump({**document, "deployments": [*own, *probes]}))
    return file


def shared_templates(root: Path) -> Path:
    """Given a data root, make it, let a server in it begin with what one of this checkout has kept, and return it."""
    root.mkdir(exist_ok=True, parents=True)
    for template in (CHECKOUT / ".nightshift").glob("prefect-*.db"):
        shutil.copy(template, root)
    return root


def make_platform(
    root: Path, *, probes_only: bool = False, variables: dict[str, str] | None = None, **options: Any
) -> Platform:
    """Given a data root, return a platform in its folder `trial` that is not started yet, with the probes deployed; its flow runs get these variables too."""
    return Platform(
        shared_templates(root) / "trial",
        rows=200,
        preferred_port=0,
        prefect_file=write_prefect_file(root, probes_only=probes_only),
        deployments="*/*",
        variables={"PYTHONPATH": str(CHECKOUT), **(variables or {})},
        **options,
    )


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A running platform: server, worker, PostgreSQL with a small sample database, S3 stand-in; nightly-backup/local and the probes are deployed."""
    with make_platform(tmp_path_factory.mktemp("platform") / "data") as started:
        yield started


@pytest.fixture
def platform_client(platform: Platform) -> Iterator[SyncPrefectClient]:
    """A client of the platform's server."""
    with server_of(platform.running).client() as client:
        yield client


@pytest.fixture
def nightshift(platform: Platform) -> Iterator[NightshiftCommand]:
    """Start the `nightshift` command with arguments, as in another terminal of the platform's user; what still runs is ended after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, **variables: str) -> subprocess.Popen[str]:
        process = start_nightshift(*arguments, NIGHTSHIFT_DATA=str(platform.folder.path.parent), **variables)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def start_nightshift(*arguments: str, **variables: str) -> "subprocess.Popen[str]":
    """Start the `nightshift` command with arguments and further variables; none of the test's own PREFECT_ variables reach it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("nightshift")), *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**inherited, "COLUMNS": "100", **variables},
    )


def below(process_id: int) -> list[psutil.Process]:
    """Every process below one, as they are now; each remembers when it was started, so that a reused number is not taken for it."""
    return psutil.Process(process_id).children(recursive=True)


def wait_until_gone(processes: list[psutil.Process], seconds: float) -> list[str]:
    """Wait for processes to end, and return the commands of those that did not. A zombie that nobody waits for has ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        alive = [process for process in processes if lives(process)]
        if not alive:
            return []
        time.sleep(0.1)
    return [command_of(process) or str(process) for process in alive]


def lives(process: psutil.Process) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def command_of(process: psutil.Process) -> str:
    """A process's words; "" when it has ended since it was listed, as PostgreSQL's workers do all the time."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""
