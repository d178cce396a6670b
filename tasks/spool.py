"""The local folder into which pg_dump writes with jobs > 1, and which of its files are finished."""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import ConfigurationError

logger = logging.getLogger(__name__)

PREFIX = "nightshift-spool-"
LOCK = "lock"
TABLE_OF_CONTENTS = "toc.dat"


@contextmanager
def spool_folder(parent: str | None, *, sweep: bool = True) -> Iterator[Path]:
    """Given where spools lie (None: the system's temporary folder), yield a new empty folder that is removed in any case.

    A spool whose process was killed is removed by the next one that sweeps: it is locked only as long as its owner lives. Raise ConfigurationError when no
    folder can be made there.
    """
    try:
        draft = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=parent)).resolve()
    except OSError as error:
        raise ConfigurationError(
            "make a spool folder", parent or tempfile.gettempdir(), str(error.strerror), "Correct spool_directory"
        ) from error
    # It gets its name when it is locked: a lock's file that nobody holds yet would look abandoned to a dump that begins at the same moment.
    folder = draft.with_name(draft.name.removeprefix("."))
    try:
        with (draft / LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(folder)
            if sweep:
                _remove_abandoned(folder)
            yield folder
    finally:
        for place in (draft, folder):
            shutil.rmtree(place, ignore_errors=True)


def _remove_abandoned(own: Path) -> None:
    for folder in own.parent.glob(f"{PREFIX}*"):
        if folder == own:
            continue
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                logger.warning("removing the spool of a process that was killed: %s", folder)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            # Locked by a living process, being made this very moment, or somebody else's.
            continue


def free_bytes(folder: Path) -> int:
    """How many bytes can still be written to a folder's disk."""
    return shutil.disk_usage(folder).free


def finished_files(folder: Path, session: int) -> list[str]:
    """Given the folder that pg_dump writes to and its session id, return the names of the data files that it has finished, in order.

    pg_dump opens each file once. So what exists, and is open in none of its processes looked at afterwards, is finished. Without the table of contents,
    which is written last.
    """
    try:
        existing = {entry.name for entry in os.scandir(folder)} - {TABLE_OF_CONTENTS}
    except FileNotFoundError:
        return []
    # Processes first started after the folder was read cannot have had one of these files open before.
    return sorted(existing - {path.name for path in _open_files(session) if path.parent == folder})


def _open_files(session: int) -> Iterator[Path]:
    """The files that any process of a session has open (proc(5))."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            # After the command's name, which may hold anything: state, parent, process group, session.
            fields = (process / "stat").read_text(errors="replace").rsplit(")", 1)[1].split()
            if int(fields[3]) != session:
                continue
            for descriptor in (process / "fd").iterdir():
                yield descriptor.readlink()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended meanwhile
