"""A scratch folder goes with its drill; a killed drill's is swept by the next one of the same environment, and no other."""

import fcntl
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from core.errors import ConfigurationError
from tasks import scratch_folder as folders
from tasks.marked_folder import MARKER, remove_folder
from tasks.scratch_folder import PREFIX, SOCKET_PREFIX, scratch_folder, socket_folder, sweep_folders
from tests.fix_platform import CHECKOUT


@pytest.fixture(autouse=True)
def sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place of the test's own for sockets: other tests' drills sweep the usual one."""
    short = Path(tempfile.mkdtemp(prefix="nf-", dir="/tmp"))
    monkeypatch.setattr(folders, "SOCKET_PARENT", short)
    yield short
    remove_folder(short)


KILLED = (
    "import os, sys; from pathlib import Path; from tasks import scratch_folder as folders\n"
    "folders.SOCKET_PARENT = Path(sys.argv[3])\n"
    "with folders.scratch_folder(Path(sys.argv[1]), sys.argv[2], 'run-1') as folder:\n"
    "    (folder.server / 'data').mkdir(); print(folder.socket, flush=True); os.kill(os.getpid(), 9)\n"
)
KILLED_WITH_A_SOCKET = (
    "import os, sys; from pathlib import Path; from tasks import scratch_folder as folders\n"
    "folders.SOCKET_PARENT = Path(sys.argv[3])\n"
    "with folders.socket_folder(sys.argv[2], 'run-2') as folder:\n"
    "    (folder / 'password').write_text('secret'); print(folder, flush=True); os.kill(os.getpid(), 9)\n"
)


def kill_a_drill(parent: Path, environment: str, program: str = KILLED) -> Path:
    """Let a process be killed within its scratch folder, and return where its socket's folder was."""
    done = subprocess.run(
        [sys.executable, "-c", program, str(parent), environment, str(folders.SOCKET_PARENT)],
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
        assert folder.socket.parent.name.startswith(SOCKET_PREFIX)
        assert folder.socket.stat().st_mode & 0o777 == 0o700
        # What the server may write to does not hold the marker.
        assert (folder.socket.parent / MARKER).exists()
    assert not folder.socket.parent.exists()


def test_only_the_killed_drills_of_the_same_environment_are_swept(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    deep.mkdir()
    socket = kill_a_drill(deep, "local")
    kill_a_drill(deep, "other")
    (deep / f"{PREFIX}not-ours").mkdir()
    with scratch_folder(deep, "local", "alive") as alive:
        removed = sweep_folders(deep, "local")
        assert [sentence.rsplit(" ", 1)[1] for sentence in removed] == ["run-1", "run-1"]
        assert alive.path.exists()
        assert alive.socket.exists()
    assert not socket.parent.exists()
    left = [path for path in deep.iterdir() if (path / MARKER).exists()]
    assert len(left) == 1
    assert '"other"' in (left[0] / MARKER).read_text()
    assert (deep / f"{PREFIX}not-ours").exists()
    assert len(sweep_folders(deep, "other")) == 2


def test_a_killed_drills_password_is_swept_and_a_living_ones_stays(tmp_path: Path) -> None:
    killed = kill_a_drill(tmp_path, "local", KILLED_WITH_A_SOCKET)
    with socket_folder("local", "alive") as alive:
        (alive / "password").write_text("secret")
        assert (killed / "password").exists()
        assert alive.stat().st_mode & 0o777 == 0o700
        assert sweep_folders(tmp_path, "other") == ()
        assert (killed / "password").exists()
        assert sweep_folders(tmp_path, "local") == (f"removed the scratch folder {killed} of the killed drill run-2",)
        assert not killed.exists()
        assert (alive / "password").exists()
    assert not alive.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_what_another_user_made_to_look_like_ours_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / MARKER).write_text('{"environment": "local", "run_id": "1"}')
    (tmp_path / f"{PREFIX}link").symlink_to(folder)
    os.chown(folder, 65534, 65534)
    assert sweep_folders(tmp_path, "local") == ()
    os.chown(folder, 0, 0)
    assert len(sweep_folders(tmp_path, "local")) == 1
    assert (tmp_path / f"{PREFIX}link").is_symlink()


def test_a_marker_that_is_being_written_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / f"{PREFIX}x"
    folder.mkdir()
    (folder / MARKER).touch()
    assert sweep_folders(tmp_path, "local") == ()
    (folder / MARKER).write_text('{"environment": "local", "run_id": "1"}')
    with (folder / MARKER).open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert sweep_folders(tmp_path, "local") == ()
    assert folder.exists()


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
    code = (
        f"from pathlib import Path; from tasks.marked_folder import remove_folder; remove_folder(Path({str(folder)!r}))"
    )
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
