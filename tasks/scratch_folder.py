"""The folders of scratch servers: an embedded one's own, and that of a socket. Locked as long as their drill lives; a later one sweeps what a killed one left."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tasks.marked_folder import marked_folder, sweep_marked

PREFIX = "nightshift-scratch-"
SOCKET_PREFIX = "nightshift-socket-"
# Where the path of a socket is short enough.
SOCKET_PARENT = Path("/tmp")  # noqa: S108 - a new folder in it, closed to others
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
    with ExitStack() as stack:
        path = stack.enter_context(marked_folder(PREFIX, parent, environment, run_id))
        # The server's OS user passes through to what is its own; nobody can list what is there.
        path.chmod(0o711)
        folder = ScratchFolder(path, path / "server", path / "root", path / "server" / "socket")
        if len(os.fsencode(folder.socket)) > LONGEST_SOCKET_FOLDER:
            apart = stack.enter_context(socket_folder(environment, run_id))
            apart.chmod(0o711)
            folder = ScratchFolder(path, folder.server, folder.root, apart / "socket")
        for each in (folder.server, folder.root, folder.socket):
            each.mkdir(mode=0o700)
        yield folder


@contextmanager
def socket_folder(environment: str, run_id: str) -> Iterator[Path]:
    """A new folder, closed to others, in which the path of a socket is short enough; removed in any case."""
    with marked_folder(SOCKET_PREFIX, SOCKET_PARENT, environment, run_id) as path:
        yield path


def sweep_folders(parent: Path | None, environment: str) -> tuple[str, ...]:
    """Given where scratch folders are made, remove those of this environment whose process was killed, and those of their sockets; return a sentence each."""
    return sweep_marked(PREFIX, parent, environment) + sweep_marked(SOCKET_PREFIX, SOCKET_PARENT, environment)
