"""The folder of an embedded scratch server: locked as long as its drill lives, so that a later drill of the same environment knows what a killed one left."""

import fcntl
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from core.errors import ConfigurationError

logger = logging.getLogger(__name__)

PREFIX = "nightshift-scratch-"
SOCKET_PREFIX = "nightshift-socket-"
MARKER = "drill.json"
# A Unix socket's path holds 107 bytes (unix(7)); the name that PostgreSQL gives it is `.s.PGSQL.5432`, with `.lock` for its lock file's.
LONGEST_SOCKET_FOLDER = 107 - len("/.s.PGSQL.5432.lock")


@dataclass(frozen=True)
class ScratchFolder:
    """`server` is all that the scratch server may see and write, `root` is empty and there to mount on, `socket` holds its socket."""

    path: Path
    server: Path
    root: Path
    socket: Path


@contextmanager
def scratch_folder(parent: Path | None, environment: str, run_id: str) -> Iterator[ScratchFolder]:
    """Given where to make it (None: the system's temporary folder), yield a new folder that is removed in any case.

    Raise ConfigurationError when no folder can be made there.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=parent)).resolve()
    except OSError as error:
        where = str(parent or tempfile.gettempdir())
        raise ConfigurationError(
            "make a scratch folder", where, str(error.strerror), "Correct restore.spool_directory"
        ) from error
    socket = path / "server" / "socket"
    apart = len(os.fsencode(socket)) > LONGEST_SOCKET_FOLDER
    if apart:
        socket = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX, dir="/tmp")).resolve()
    marker = {"environment": environment, "run_id": run_id, "socket": str(socket) if apart else ""}
    try:
        with (path / MARKER).open("w") as lock:
            # Locked before anything is in it: an empty marker is nobody's.
            fcntl.flock(lock, fcntl.LOCK_EX)
            json.dump(marker, lock)
            lock.flush()
            # The server's OS user passes through to what is its own; nobody can list what is there.
            path.chmod(0o711)
            folder = ScratchFolder(path, path / "server", path / "root", socket)
            folder.server.mkdir(mode=0o700)
            folder.root.mkdir(mode=0o700)
            if not apart:
                socket.mkdir(mode=0o700)
            yield folder
    finally:
        remove_folder(path)
        if apart:
            remove_folder(socket)


def sweep_folders(parent: Path | None, environment: str) -> tuple[str, ...]:
    """Given where scratch folders are made, remove those of this environment whose process was killed, and return what was removed, a sentence each."""
    removed = []
    for path in sorted(Path(parent or tempfile.gettempdir()).glob(f"{PREFIX}*")):
        with suppress(OSError), (path / MARKER).open("r+") as lock:
            # Locked: its drill is alive. A marker that cannot be read is somebody else's.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            marker = _read(lock)
            if marker.get("environment") != environment:
                continue
            remove_folder(path)
            socket = Path(marker.get("socket") or path)
            if socket.name.startswith(SOCKET_PREFIX):
                remove_folder(socket)
            removed.append(f"removed the scratch folder {path} of the killed drill {marker.get('run_id')}")
    return tuple(removed)


def remove_folder(path: Path) -> None:
    """Remove a folder with all that is in it, whatever modes the code that ran in it gave to its folders; what cannot be removed is logged."""

    def open_up(function: Callable[..., object], name: str, _error: object) -> None:
        with suppress(OSError):
            folder = Path(name).parent
            folder.chmod(stat.S_IRWXU)
            if Path(name).is_dir() and not Path(name).is_symlink():
                Path(name).chmod(stat.S_IRWXU)
                shutil.rmtree(name, ignore_errors=True)
            else:
                function(name)

    # Never follows a link (shutil.rmtree.avoids_symlink_attacks is true on Linux).
    shutil.rmtree(path, onerror=open_up)
    if path.exists():
        logger.warning("could not remove %s: remove it by hand", path)


def _read(file: IO[str]) -> dict[str, Any]:
    try:
        marker = json.load(file)
    except ValueError:
        return {}
    return marker if isinstance(marker, dict) else {}
