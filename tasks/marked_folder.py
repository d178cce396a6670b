"""Temporary folders of drills: a marker in each says whose it is and is locked as long as its process lives, so that a later drill removes what a killed one left."""

import fcntl
import json
import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from core.errors import ConfigurationError

logger = logging.getLogger(__name__)

MARKER = "drill.json"


@contextmanager
def marked_folder(prefix: str, parent: Path | None, environment: str, run_id: str) -> Iterator[Path]:
    """Given how its name begins and where to make it (None: the system's temporary folder), yield a new folder, closed to others; it is removed in any case.

    The marker is locked before anything is in the folder, and stays so until the process ends. Whoever is not to be able to change the marker must not get
    the folder itself, only one below it. Raise ConfigurationError when no folder can be made there.
    """
    try:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent)).resolve()
    except OSError as error:
        where = str(parent or tempfile.gettempdir())
        raise ConfigurationError(
            "make a scratch folder", where, str(error.strerror), "Correct restore.spool_directory"
        ) from error
    try:
        with (path / MARKER).open("w") as lock:
            # Locked before anything is in it: an empty marker is nobody's.
            fcntl.flock(lock, fcntl.LOCK_EX)
            json.dump({"environment": environment, "run_id": run_id}, lock)
            lock.flush()
            try:
                yield path
            finally:
                # While it is locked: no sweep takes it for a killed drill's.
                remove_folder(path)
    finally:
        if path.exists():
            remove_folder(path)


def sweep_marked(prefix: str, parent: Path | None, environment: str) -> tuple[str, ...]:
    """Remove the folders of an environment whose process was killed, and return what was removed, a sentence each.

    Left alone: what is locked (its drill lives), has no marker or another environment's, and what another OS user made.
    """
    removed = []
    for path in sorted(Path(parent or tempfile.gettempdir()).glob(f"{prefix}*")):
        with suppress(OSError):
            status = path.lstat()
            if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                continue
            with (path / MARKER).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                marker = _read(lock)
                if marker.get("environment") != environment:
                    continue
                remove_folder(path)
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
