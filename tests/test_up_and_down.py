"""`nightshift up` and `down` without a server: which variables the programs get, and what is done where the supervisor was killed."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path

import psutil
import pytest
import typer
from typer.testing import CliRunner, Result

from core.errors import ConfigurationError
from deployments.command import machine, machine_listening, machine_stop
from deployments.local.data_folder import platform_folder
from deployments.local.running import SERVER as KIND
from deployments.local.running import RunningPlatform
from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import MARK, RUN, SERVER, WORKER, Program
from tests.waiting import wait_until

Starting = Callable[..., psutil.Process]
_FOREVER = "import time; time.sleep(300)"
# Ends by itself, and says whether the server was there until then.
_RUN = """
import os, pathlib, sys, time
time.sleep(1.5)
server = pathlib.Path(f"/proc/{sys.argv[2]}/stat").read_text().rpartition(")")[2].split()[0]
pathlib.Path(sys.argv[1]).write_text(server)
"""


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Starting]:
    """Start a program as `up` would have, without a supervisor."""
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path))
    with ExitStack() as stack:

        def start(code: str, *words: str, run: bool = False) -> psutil.Process:
            marks = {MARK: str(platform_folder(KIND))}
            variables = {**os.environ, **marks, **({RUN: "a-run"} if run else {})}
            child = stack.enter_context(subprocess.Popen([sys.executable, "-c", code, *words], env=variables))
            stack.callback(child.kill)
            found = psutil.Process(child.pid)
            wait_until(lambda: found.environ().get(MARK) == marks[MARK], "it is a program of its own")
            return found

        yield start


def call(command: Callable[..., None], *arguments: str) -> Result:
    """Run one of the commands."""
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, arguments)


def test_down_waits_for_the_runs_that_a_killed_supervisor_left_and_ends_their_server_last(
    left: Starting, tmp_path: Path
) -> None:
    server, worker = left(_FOREVER, "prefect", "server", "start"), left(_FOREVER, "prefect", "worker", "start")
    told = tmp_path / "told"
    run = left(_RUN, str(told), str(server.pid), run=True)
    result = call(machine.down_command, "--wait", "30")
    assert result.exit_code == 0, result.output
    assert told.is_file(), result.output
    assert told.read_text() in {"S", "R"}
    assert "waiting up to 30 s for the runs under way (1 processes)" in result.output
    assert f"ending process {run.pid}" not in result.output
    assert result.output.index(f"ending process {worker.pid}") < result.output.index(f"ending process {server.pid}")
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in (server, worker, run))


def test_down_says_what_it_could_not_end(left: Starting, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = left(_FOREVER, "prefect", "worker", "start")
    # As a process that waits for a disk which does not answer: no signal reaches it.
    monkeypatch.setattr(psutil.Process, "kill", lambda _process: None)
    monkeypatch.setattr(psutil.Process, "terminate", lambda _process: None)
    monkeypatch.setattr(machine_stop, "_GRACE_SECONDS", 0.1)
    app = typer.Typer()
    app.command()(machine.down_command)
    result = CliRunner().invoke(app, ["--wait", "0"])
    assert result.exit_code == 1, result.output
    assert "nothing of it is left running" not in result.output
    assert str(stuck.pid) in str(result.exception)


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose name leaves room for a socket's."""
    with tempfile.TemporaryDirectory(prefix="ns-up-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.parametrize("command", [machine.up_command, machine.down_command])
def test_an_up_and_a_down_at_the_same_moment_do_not_touch_what_the_other_does(
    left: Starting, short_path: Path, monkeypatch: pytest.MonkeyPatch, command: Callable[..., None]
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(short_path))
    server = left(_FOREVER, "prefect", "server", "start")
    folder = ServerFolder(platform_folder(KIND))
    folder.make()
    with folder.turn():
        refused = call(command)
    assert refused.exit_code != 0
    assert isinstance(refused.exception, ConfigurationError)
    assert f"another command starts or stops it (process {os.getpid()})" in str(refused.exception)
    assert server.is_running()
    assert server.status() != psutil.STATUS_ZOMBIE
    with folder.turn():
        pass


def test_folders_that_were_named_from_where_up_was_called_are_the_same_for_its_programs(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(short_path)
    monkeypatch.setenv("NIGHTSHIFT_DATA", "data")
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", "environments")
    folder = ServerFolder(platform_folder(KIND))
    folder.make()
    variables = machine._environment(folder, "http://127.0.0.1:9/api")
    assert variables["NIGHTSHIFT_DATA"] == str(short_path / "data")
    assert variables["NIGHTSHIFT_ENVIRONMENTS"] == str(short_path / "environments")
    monkeypatch.delenv("NIGHTSHIFT_ENVIRONMENTS")
    assert "NIGHTSHIFT_ENVIRONMENTS" not in machine._environment(folder, "http://127.0.0.1:9/api")


def test_status_is_not_well_while_an_environments_file_is_wrong_and_no_receiver_tells_it(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environments = short_path / "environments"
    environments.mkdir()
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(short_path))
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(environments))
    folder = ServerFolder(platform_folder(KIND))
    folder.make()
    folder.write_record(
        RunningPlatform(process_id=1, ui_url="http://ui", api_url="http://api", auth_string="a:b", variables={})
    )

    class Well:
        pid = os.getpid()

        def __init__(self, _folder: ServerFolder) -> None:
            """Server and worker run, and no receiver was started."""

        def programs(self) -> list[Program]:
            return [Program(name, "RUNNING", 0, short_path / "log") for name in (SERVER, WORKER)]

    monkeypatch.setattr(machine, "Supervised", Well)
    monkeypatch.setattr(machine, "paused", lambda _folder: "")
    monkeypatch.setattr(machine, "ailment", lambda _program, _folder: "")
    monkeypatch.setattr(machine, "answers_socket", lambda _socket: True)
    monkeypatch.setattr(machine_listening, "with_its_environments", lambda _supervised: nullcontext())
    app = typer.Typer()
    app.command()(machine.status_command)
    assert CliRunner().invoke(app, []).exit_code == 0
    (environments / "broken.toml").write_text("[databases.app]\n")
    result = CliRunner().invoke(app, [])
    assert "broken" in result.output
    assert result.exit_code == 1, result.output


def test_files_are_read_with_the_variables_that_up_was_given(
    monkeypatch: pytest.MonkeyPatch, left: Starting, tmp_path: Path
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_MINE__STORE__BUCKET", "given")
    supervisor = left(_FOREVER)
    monkeypatch.delenv("NIGHTSHIFT_MINE__STORE__BUCKET")
    monkeypatch.setenv("NIGHTSHIFT_ENVIRONMENTS", str(tmp_path))

    class Supervised:
        pid = supervisor.pid

    with machine_listening.with_its_environments(Supervised()):  # type: ignore[arg-type]
        assert os.environ["NIGHTSHIFT_MINE__STORE__BUCKET"] == "given"
        assert "NIGHTSHIFT_ENVIRONMENTS" not in os.environ
    assert "NIGHTSHIFT_MINE__STORE__BUCKET" not in os.environ
    assert os.environ["NIGHTSHIFT_ENVIRONMENTS"] == str(tmp_path)
