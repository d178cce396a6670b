"""The one-machine platform: it starts from the installed lock, runs a flow, keeps to itself, and leaves nothing behind however it ends."""

import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import psutil
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import DeploymentFilter, DeploymentFilterId

from core.errors import ConfigurationError
from deployments.command.follow import follow_run, start_deployment
from deployments.local.data_folder import CHECKOUT, DataFolder
from deployments.local.platform import Platform
from deployments.local.ports import HOST
from deployments.local.running import RunningPlatform, find_running
from tests.fix_platform import below, command_of, wait_until_gone

pytestmark = pytest.mark.xdist_group("platform")


def test_server_and_worker_start_from_the_installed_lock_and_run_a_flow(
    platform: Platform, platform_client: SyncPrefectClient
) -> None:
    run = start_deployment(platform_client, "nightly-backup/probe-well", {"databases": ["app"]})
    last = list(follow_run(platform_client, run, every_seconds=0.3))[-1]
    assert last.state_name == "Completed", last.message
    assert last.message.startswith("backed up ['app'] with retention apply")
    assert [(step.name, step.state) for step in last.steps] == [("dump app", "passed")]
    assert [(one.key, one.percent) for one in last.progress] == [("backup-app", 100.0)]


def test_a_second_start_with_the_same_idempotency_key_is_the_same_run(
    platform: Platform, platform_client: SyncPrefectClient
) -> None:
    first = start_deployment(platform_client, "nightly-backup/probe-fails", {}, idempotency_key="once")
    assert start_deployment(platform_client, "nightly-backup/probe-fails", {}, idempotency_key="once") == first


def test_the_server_plans_the_runs_of_a_schedule(platform: Platform, platform_client: SyncPrefectClient) -> None:
    # With SQLAlchemy 2.1 the scheduler of Prefect 3.8.8 fails, all else works, and no nightly backup ever runs.
    deployment = platform_client.read_deployment_by_name("nightly-backup/probe-scheduled")
    this = DeploymentFilter(id=DeploymentFilterId(any_=[deployment.id]))
    deadline = time.monotonic() + 60
    while not (runs := platform_client.read_flow_runs(deployment_filter=this)):
        assert time.monotonic() < deadline, (platform.folder.logs / "prefect-server.log").read_text()[-2000:]
        time.sleep(0.5)
    assert all(run.auto_scheduled for run in runs)
    hours = {
        run.expected_start_time.astimezone(ZoneInfo("Europe/Berlin")).hour for run in runs if run.expected_start_time
    }
    assert hours == {2}


def test_everything_listens_on_this_machine_only(platform: Platform) -> None:
    listening = {
        (name, connection.laddr.ip)
        for process in below(os.getpid())
        for name, connection in tcp_of(process)
        if connection.status == psutil.CONN_LISTEN
    }
    assert len(listening) >= 2
    assert {address for _, address in listening} == {HOST}


def tcp_of(process: psutil.Process) -> list[tuple[str, Any]]:
    """A process's name with each of its TCP sockets; none when it has just ended, as PostgreSQL's workers do."""
    try:
        return [(process.name(), connection) for connection in process.net_connections("tcp")]
    except psutil.NoSuchProcess:
        return []


def test_no_secret_stands_in_a_log_or_in_a_process_list(platform: Platform) -> None:
    secret_names = ("NIGHTSHIFT_LOCAL_S3_SECRET", "NIGHTSHIFT_LOCAL_BACKUP_PASSWORD", "NIGHTSHIFT_LOCAL_SIGNING_KEY")
    secrets = [platform.prefect.password, *(platform.variables[name] for name in secret_names)]
    superuser = psycopg.conninfo.conninfo_to_dict(platform.postgres.admin_conninfo)["password"]
    texts = {file.name: file.read_text() for file in platform.folder.logs.iterdir()}
    texts |= {f"arguments of {process.pid}": command_of(process) for process in below(os.getpid())}
    assert {"postgres.log", "s3.log", "prefect-server.log", "prefect-worker.log", "deploy.log"} <= texts.keys()
    assert [name for name, text in texts.items() for secret in (*secrets, str(superuser)) if secret in text] == []


def test_the_platform_tells_its_owner_alone_how_to_reach_it(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stat.S_IMODE(platform.folder.record.stat().st_mode) == 0o600
    assert stat.S_IMODE(platform.folder.path.stat().st_mode) == 0o700
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(platform.folder.path.parent))
    assert find_running() == platform.running


def test_the_backup_role_is_no_superuser_and_reads_the_sample(platform: Platform) -> None:
    with psycopg.connect(
        host=HOST,
        port=platform.postgres.port,
        dbname="platform",
        user="nightshift_backup",
        password=platform.variables["NIGHTSHIFT_LOCAL_BACKUP_PASSWORD"],
        options="-c search_path=pg_catalog",  # the sample sets traps for this role
    ) as connection:
        assert connection.execute(
            "SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
        ).fetchone() == (False,)
        assert connection.execute("SELECT count(*) FROM public.users").fetchone() == (200,)


def test_a_second_platform_in_the_same_folder_is_refused(platform: Platform) -> None:
    with pytest.raises(ConfigurationError, match=rf"one is running from this folder already \(process {os.getpid()}\)"):
        DataFolder(platform.folder.path).claim()


@contextmanager
def another_platform(root: Path) -> Iterator[tuple[subprocess.Popen[str], list[str]]]:
    """A platform in a process of its own, as `nightshift try` runs it, and the lines it has printed so far."""
    code = (
        "import sys; from pathlib import Path; from deployments.command.trial import Teller, run_until_stopped; from tests.fix_platform import make_platform; "
        "run_until_stopped(make_platform(Path(sys.argv[1]), probes_only=True, tell=Teller()))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    try:
        yield process, lines
    finally:
        process.kill()
        process.wait()
        reader.join(10)
        process.stdout.close()


def wait_for_line(process: subprocess.Popen[str], lines: list[str], text: str, seconds: float = 130) -> None:
    """Wait until the process has printed text."""
    deadline = time.monotonic() + seconds
    while not any(text in line for line in lines):
        assert process.poll() is None, "".join(lines)
        assert time.monotonic() < deadline, "".join(lines)
        time.sleep(0.1)


def scratch_of(root: Path) -> Path:
    """The folder in /var/tmp of a platform that runs."""
    return Path((root / "trial" / "scratch").read_text())


@pytest.mark.services
def test_ctrl_c_ends_everything_even_in_the_midst_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "data"
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(root))
    with another_platform(root) as (process, lines):
        wait_for_line(process, lines, "Running until Ctrl-C")
        scratch = scratch_of(root)
        running = find_running()
        assert running is not None
        run_sleeping_probe(running)
        started = below(process.pid)
        assert any("time.sleep(600)" in command_of(one) for one in started)
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 0
        assert wait_until_gone(started, 10) == []
        assert not scratch.exists()
        assert sorted(path.name for path in (root / "trial").iterdir()) == ["lock", "logs"]
        assert find_running() is None


@pytest.mark.services
def test_a_killed_platform_leaves_nothing_running_and_the_next_one_sweeps_its_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "data"
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(root))
    # Killed while `prefect deploy` is at work: the worker and all servers are there.
    with another_platform(root) as (process, lines):
        wait_for_line(process, lines, "starting a worker")
        time.sleep(1.5)
        scratch, started = scratch_of(root), below(process.pid)
        assert len(started) >= 6
        process.kill()
        assert wait_until_gone(started, 60) == []
        assert find_running() is None
    assert scratch.exists()
    after = DataFolder(root / "trial")
    after.claim()
    assert not scratch.exists()
    after.release()


def run_sleeping_probe(running: RunningPlatform) -> None:
    """Start a run whose process has a child in a session of its own, and wait until that child is there."""
    from deployments.command.prefect_api import server_of

    with server_of(running).client() as client:
        run = start_deployment(client, "nightly-backup/probe-sleeps", {})
        next(view for view in follow_run(client, run, every_seconds=0.3) if view.state_name == "Running")
    deadline = time.monotonic() + 60
    while not any("time.sleep(600)" in command_of(one) for one in below(running.process_id)):
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.services
def test_sigterm_while_it_is_still_starting_ends_everything(tmp_path: Path) -> None:
    root = tmp_path / "data"
    with another_platform(root) as (process, lines):
        wait_for_line(process, lines, "waiting for the Prefect server")
        scratch, started = scratch_of(root), below(process.pid)
        assert len(started) >= 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        assert wait_until_gone(started, 10) == []
        assert not scratch.exists()
