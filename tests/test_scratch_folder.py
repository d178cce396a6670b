"""A scratch folder goes with its drill; a killed drill's is swept by the next one of the same environment, and no other."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from tasks.scratch_folder import MARKER, PREFIX, SOCKET_PREFIX, remove_folder, scratch_folder, sweep_folders
from tests.fix_platform import CHECKOUT

KILLED = (
    "import os, sys; from pathlib import Path; from tasks.scratch_folder import scratch_folder\n"
    "with scratch_folder(Path(sys.argv[1]), sys.argv[2], 'run-1') as folder:\n"
    "    (folder.server / 'data').mkdir(); print(folder.socket, flush=True); os.kill(os.getpid(), 9)\n"
)


def kill_a_drill(parent: Path, environment: str) -> Path:
    """Let a process be killed within its scratch folder, and return where its socket's folder was."""
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(parent), environment],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -9, done.stderr
    return Path(done.stdout.strip())


def test_the_folder_is_removed_when_the_block_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), scratch_folder(tmp_path, "local", "run-1") as folder:
        (folder.server / "data").mkdir()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_socket_whose_path_would_be_too_long_lies_elsewhere_and_goes_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    with scratch_folder(deep, "local", "run-1") as folder:
        assert folder.socket.name.startswith(SOCKET_PREFIX)
        assert folder.socket.stat().st_mode & 0o777 == 0o700
        assert folder.socket.exists()
    assert not folder.socket.exists()


def test_only_the_killed_drills_of_the_same_environment_are_swept(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    socket = kill_a_drill(deep, "local")
    kill_a_drill(deep, "other")
    (deep / f"{PREFIX}not-ours").mkdir()
    with scratch_folder(deep, "local", "alive") as alive:
        removed = sweep_folders(deep, "local")
        assert [sentence.rsplit(" ", 1)[1] for sentence in removed] == ["run-1"]
        assert alive.path.exists()
    assert not socket.exists()
    left = [path for path in deep.iterdir() if (path / MARKER).exists()]
    assert len(left) == 1
    assert '"other"' in (left[0] / MARKER).read_text()
    assert (deep / f"{PREFIX}not-ours").exists()
    assert len(sweep_folders(deep, "other")) == 1


def test_a_marker_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / MARKER).touch()
    assert sweep_folders(tmp_path, "local") == ()
    (folder / MARKER).write_text('{"environment": "local", "run_id": "1", "socket": ""}')
    with (folder / MARKER).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep_folders(tmp_path, "local") == ()
    assert folder.exists()


def test_a_marker_cannot_have_something_else_removed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / MARKER).write_text(f'{{"environment": "local", "run_id": "1", "socket": "{precious}"}}')
    assert len(sweep_folders(tmp_path, "local")) == 1
    assert precious.exists()


def test_folders_that_were_closed_on_purpose_are_removed_and_links_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    folder = tmp_path / "folder"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").touch()
    (folder / "link").symlink_to(precious)
    for path in (folder / "a" / "b", folder / "a"):
        path.chmod(0)
    code = f"from pathlib import Path; from tasks.scratch_folder import remove_folder; remove_folder(Path({str(folder)!r}))"
    # Root needs no modes: try it as somebody to whom they matter, where we can.
    if os.geteuid() == 0:
        remove_folder(folder)
    else:
        subprocess.run([sys.executable, "-c", code], cwd=CHECKOUT, check=True, timeout=60)
    assert not folder.exists()
    assert (precious / "file").exists()


def test_where_no_folder_can_be_made_the_message_says_so(tmp_path: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match="make a scratch folder"),
        scratch_folder(tmp_path / "missing", "local", "run-1"),
    ):
        pass
