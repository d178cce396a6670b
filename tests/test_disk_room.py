"""Room on this machine's disks: one rule for `nightshift check` and `nightshift status`, and both say the figure."""

from pathlib import Path

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from core.checks import Check
from core.disk_room import LEAST_ROOM, MIB, is_full, room_check, room_state
from core.environment import Environment
from core.units import human_bytes
from deployments.command import disk_probes, machine
from deployments.command.probes import probes_of, run_probes
from deployments.local.running import RunningPlatform
from deployments.local.server_folder import ServerFolder
from deployments.local.supervised import RECEIVER, Program
from tests.fix_object_store import environment_for

BYTES = st.integers(0, 2**50)
WORSE = {"passed": 0, "warning": 1, "failed": 2}
WORK, DATA = "disk: restores and drills", "disk: this machine's server"


@given(free=BYTES, more=BYTES, ample=BYTES)
def test_more_room_is_never_worse_and_asking_for_more_never_better(free: int, more: int, ample: int) -> None:
    state = WORSE[room_state(free, ample)]
    assert WORSE[room_state(free + more, ample)] <= state
    assert WORSE[room_state(free, ample + more)] >= state


@given(free=BYTES, ample=BYTES)
def test_a_full_disk_fails_whatever_is_called_ample_and_any_other_does_not(free: int, ample: int) -> None:
    assert (room_state(free, ample) == "failed") is is_full(free) is (free < LEAST_ROOM)
    assert (room_state(free, ample) == "passed") is (free >= max(ample, LEAST_ROOM))


@given(free=BYTES, ample=BYTES)
def test_the_figure_is_told_and_what_to_do_where_something_is_to_be_done(free: int, ample: int) -> None:
    check = room_check("disk", "/data", free, ample, writers=["dumps"], next_step="Make room")
    assert check.found.startswith(f"/data: {human_bytes(free)} free")
    assert bool(check.next_step) is ("dumps" in check.found) is (check.state != "passed")


def rows(monkeypatch: pytest.MonkeyPatch, free: int, environment: Environment) -> dict[str, Check]:
    """The rows about disks, of an environment, while so many bytes are free everywhere."""
    monkeypatch.setattr(disk_probes, "free_bytes", lambda _folder: free)
    probes = [one for one in probes_of(environment) if one.name.startswith("disk")]
    return {one.name: one for found in run_probes(probes) for one in found}


@pytest.mark.parametrize(
    ("free", "work", "data", "figure"),
    [
        (0, "failed", "failed", "0 B free"),
        (63 * MIB, "failed", "failed", "63.0 MiB free"),
        (64 * MIB, "warning", "warning", "64.0 MiB free"),
        (1023 * MIB, "warning", "passed", "1023.0 MiB free"),
        (1024 * MIB, "passed", "passed", "1.0 GiB free"),
    ],
)
def test_check_is_not_ready_on_a_full_disk(  # noqa: PLR0917 - what is given
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, work: str, data: str, figure: str
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path))
    found = rows(monkeypatch, free, environment_for("bucket-name", "http://127.0.0.1:1"))
    assert {name: one.state for name, one in found.items()} == {WORK: work, DATA: data}
    assert all(figure in one.found for one in found.values())
    assert str(tmp_path) in found[DATA].found
    assert all(bool(one.next_step) is (one.state != "passed") for one in found.values())


def test_check_looks_where_restores_and_drills_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path / "nothing"))
    environment = environment_for("bucket-name", "http://127.0.0.1:1")
    (tmp_path / "spool").mkdir()
    for folder, state in (("spool", "passed"), ("missing", "failed")):
        restore = environment.restore.model_copy(update={"spool_directory": str(tmp_path / folder)})
        found = rows(monkeypatch, 2**40, environment.model_copy(update={"restore": restore}))
        assert {name: one.state for name, one in found.items()} == {WORK: state}
        assert str(tmp_path / folder) in found[WORK].found
    assert list((tmp_path / "spool").iterdir()) == []


@pytest.mark.parametrize(("free", "code"), [(LEAST_ROOM - 1, 1), (LEAST_ROOM, 0)])
def test_status_ends_with_one_below_the_limit_and_says_the_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, code: int
) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DATA", str(tmp_path))
    folder = ServerFolder(tmp_path / "server")
    folder.make()
    folder.write_record(
        RunningPlatform(process_id=1, ui_url="http://ui", api_url="http://api", auth_string="a:b", variables={})
    )

    class Well:
        def __init__(self, _folder: ServerFolder) -> None:
            """All of it runs, as far as it is asked here."""

        def programs(self) -> list[Program]:
            return [Program(RECEIVER, "RUNNING", 0, tmp_path / "log")]

    monkeypatch.setattr(machine, "Supervised", Well)
    monkeypatch.setattr(machine, "paused", lambda _folder: "")
    monkeypatch.setattr(machine, "ailment", lambda _program, _folder: "")
    monkeypatch.setattr(machine, "answers_socket", lambda _socket: True)
    monkeypatch.setattr(machine, "free_bytes", lambda _folder: free)
    app = typer.Typer()
    app.command()(machine.status_command)
    result = CliRunner().invoke(app, [])
    assert result.exit_code == code, result.output
    told = f"{free >> 20} MiB are free for {folder.path}: the server cannot save what happens. Make room"
    assert (told in result.output) is bool(code)
