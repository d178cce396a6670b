"""Servers with the sample database, one set a session: tests that use it belong to one worker, xdist_group("sample_database")."""

import difflib
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from deployments.local.sample_database import BACKUP_ROLE, SampleInfo, load_sample
from deployments.local.sample_database.scripts import FOLDER
from tasks.postgres import libpq_environment
from tests.fix_postgres import MAJORS, PostgresServer, end_server, make_server
from tests.leave_out import leave_out

ROWS = 300
PASSWORD = "backup-role-password"


@dataclass
class Servers:
    """Servers of these tests alone, made when first asked for: sources with both samples, and targets that know no role yet."""

    extensions: Path
    sources: dict[int, PostgresServer] = field(default_factory=dict)
    targets: dict[int, PostgresServer] = field(default_factory=dict)
    samples: dict[tuple[int, str], SampleInfo] = field(default_factory=dict)

    def source(self, major: int, database: str = "platform") -> PostgresServer:
        """A server with the sample `platform`, or `portable`, in it."""
        if major not in self.sources:
            self.sources[major] = self._make(major)
        self.sample(major, database)
        return self.sources[major]

    def sample(self, major: int, database: str) -> SampleInfo:
        if (major, database) not in self.samples:
            self.samples[major, database] = load_sample(
                self.sources[major].conninfo(),
                rows=ROWS,
                backup_password=PASSWORD,
                database=database,
                portable=database == "portable",
            )
        return self.samples[major, database]

    def target(self, major: int) -> PostgresServer:
        if major not in self.targets:
            self.targets[major] = self._make(major)
        return self.targets[major]

    def _make(self, major: int) -> PostgresServer:
        if major not in MAJORS:
            leave_out(f"PostgreSQL {major} is not installed")
        settings = {"extension_control_path": f"$system:{self.extensions}"} if major >= 18 else {}
        return make_server(major, **settings)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Servers with the sample, made as they are asked for."""
    # Not pytest's folder, which it closes to the other user whom the servers run as when the tests run as root.
    extensions = Path(tempfile.mkdtemp(prefix="nightshift-extensions-"))
    shutil.copytree(FOLDER / "extension_path", extensions, dirs_exist_ok=True)
    for path in (extensions, *extensions.rglob("*")):
        path.chmod(0o755)
    made = Servers(extensions)
    yield made
    running = [*made.sources.values(), *made.targets.values()]
    # All at once and without the checkpoint of an orderly end: nobody needs the data again.
    for server in running:
        if server.process is not None:
            server.process.send_signal(signal.SIGQUIT)
    for server in running:
        end_server(server)
    shutil.rmtree(extensions)


def as_backup_role(server: PostgresServer, database: str) -> dict[str, str]:
    """The environment of a client program that the backup role runs, as nightshift gives it."""
    return libpq_environment(server.database(database, user=BACKUP_ROLE, password=PASSWORD))


def run(server: PostgresServer, program: str, *arguments: str, environment: dict[str, str], given: str = "") -> str:
    """What a client program of the server's major prints; it must succeed."""
    result = subprocess.run(
        [server.bin / program, *arguments], env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def lines_of(dump: str) -> list[str]:
    """A plain dump's lines, sorted, without those that differ between any two dumps."""
    return sorted(
        line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "-- Dumped"))
    )


def difference(one: list[str], other: list[str]) -> list[str]:
    """The lines that are in one alone (with "-") or in the other alone (with "+")."""
    return [line for line in difflib.unified_diff(one, other, n=0, lineterm="") if line[:2] not in ("@@", "--", "++")]
