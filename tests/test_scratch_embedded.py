"""The embedded scratch server: of the dump's major, without TCP, kept in, gone afterwards, and named in errors that an operator can use."""

import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from psycopg import sql

from core.errors import PermanentError
from tasks import scratch_embedded, scratch_isolation
from tasks.postgres import Connection, connect
from tasks.postgres_binaries import find_server, installed_servers
from tasks.scratch import Scratch, open_scratch, sweep_scratch
from tasks.scratch_isolation import Isolation
from tests.fix_platform import CHECKOUT, below, command_of, lives
from tests.fix_scratch import WORDS, Bait, manifest_of, scratch_environment
from tests.leave_out import leave_out

# Minutes of faults on real servers: make test-services.
pytestmark = pytest.mark.services

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another OS user")
SMALLEST = min(programs.major for programs in installed_servers())


@pytest.fixture
def parent() -> Iterator[Path]:
    """Where scratch folders are made: short, and open to the server's OS user."""
    folder = Path("/var/tmp") / f"nightshift-test-scratch-{os.getpid()}"
    folder.mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def session(scratch: Scratch) -> Iterator[Connection]:
    with connect(scratch.login, application_name="test") as connection:
        yield connection


def value(connection: Connection, query: Any) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def test_a_hostile_dump_gets_at_nothing(parent: Path, bait: Bait) -> None:
    environment = scratch_environment(require_isolation=True)
    with (
        open_scratch(environment, manifest_of(SMALLEST), run_id="1", work_parent=parent) as scratch,
        session(scratch) as connection,
    ):
        # As pg_restore runs it: a function that a CHECK constraint calls, in a session of the superuser.
        program = sql.SQL("COPY (SELECT 1) TO PROGRAM {}").format(f"({bait.script}) >loot 2>&1").as_string()
        body = sql.Literal(f"BEGIN {program}; RETURN true; END").as_string()
        connection.execute(
            f"CREATE FUNCTION public.hostile(integer) RETURNS boolean LANGUAGE plpgsql AS {body}".encode()
        )
        connection.execute("CREATE TABLE public.t (a integer CHECK (public.hostile(a)))")
        connection.execute("INSERT INTO public.t VALUES (1)")
        found = value(connection, "SELECT pg_read_file('loot')")
        socket_folder = Path(scratch.login.host)
        assert "PATH=" in found
        assert not [word for word in WORDS if word in found]
        assert socket_folder.stat().st_mode & 0o777 == 0o700
        assert value(connection, "SHOW listen_addresses") == ""
    assert any("no network" in sentence for sentence in scratch.isolation)
    assert any("no other process" in sentence for sentence in scratch.isolation)
    assert list(parent.iterdir()) == []


def test_nothing_of_it_listens_on_tcp_and_all_of_it_ends(parent: Path) -> None:
    with open_scratch(scratch_environment(), manifest_of(SMALLEST), run_id="1", work_parent=parent) as scratch:
        with session(scratch) as connection:
            connection.execute("CREATE DATABASE one")
        guards = [one for one in below(os.getpid()) if "scratch_guard" in command_of(one)]
        servers = [one for guard in guards for one in guard.children(recursive=True) if is_postgres(one)]
        assert servers
        users = set()
        for process in servers:
            with suppress(psutil.NoSuchProcess):  # a worker of its own may have ended
                assert process.net_connections("inet") == []
                users.add(process.username())
        assert os.geteuid() != 0 or users <= {"postgres", "nobody"}
    assert not [process for process in servers if lives(process)]


def is_postgres(process: psutil.Process) -> bool:
    """Whether a process is one of PostgreSQL's; the session that has just been closed may end while it is looked at."""
    with suppress(psutil.NoSuchProcess):
        return process.name() == "postgres"
    return False


def test_a_tuned_server_says_so_and_is_so(parent: Path) -> None:
    manifest = manifest_of(SMALLEST, settings={"max_locks_per_transaction": "128", "data_checksums": "on"})
    with (
        open_scratch(scratch_environment(), manifest, run_id="1", work_parent=parent) as scratch,
        session(scratch) as connection,
    ):
        assert scratch.indicative
        assert scratch.settings["fsync"] == value(connection, "SHOW fsync") == "off"
        assert value(connection, "SHOW wal_level") == "minimal"
        assert value(connection, "SHOW max_locks_per_transaction") == "128"
        assert value(connection, "SHOW data_checksums") == "on"
        assert value(connection, "SHOW shared_buffers") == (
            "1GB" if scratch.settings["shared_buffers"] == "1024MB" else scratch.settings["shared_buffers"]
        )


def test_one_that_is_not_tuned_keeps_the_defaults_and_is_named_as_the_sources_superuser(parent: Path) -> None:
    manifest = manifest_of(SMALLEST, superusers=("Chef d’État",))
    with (
        open_scratch(scratch_environment(tuned=False), manifest, run_id="1", work_parent=parent) as scratch,
        session(scratch) as connection,
    ):
        assert not scratch.indicative
        assert "fsync" not in scratch.settings
        assert value(connection, "SHOW fsync") == "on"
        assert value(connection, "SELECT rolname FROM pg_roles WHERE oid = 10") == "Chef d’État"
        assert (
            value(
                connection,
                "SELECT pg_encoding_to_char(encoding) || datcollate FROM pg_database WHERE datname = 'postgres'",
            )
            == "UTF8C"
        )


@pytest.mark.services
def test_a_folder_with_a_long_name_does(parent: Path) -> None:
    deep = parent / ("d" * 90)
    deep.mkdir()
    with (
        open_scratch(
            scratch_environment(require_isolation=True), manifest_of(SMALLEST), run_id="1", work_parent=deep
        ) as scratch,
        session(scratch) as connection,
    ):
        assert value(connection, "SELECT 1") == 1
    assert not Path(scratch.login.host).exists()


def test_without_isolation_a_drill_that_requires_it_is_refused_before_anything_starts(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lacking = Isolation(("privileges",), {"network": "Operation not permitted"})
    monkeypatch.setattr(scratch_embedded, "_make_cluster", lambda *_: lacking)
    started = []
    monkeypatch.setattr(scratch_embedded, "_running", lambda *_: started.append(1))
    with (
        pytest.raises(PermanentError, match=r"drill\.require_isolation is set, and the network is within reach"),
        open_scratch(
            scratch_environment(require_isolation=True), manifest_of(SMALLEST), run_id="1", work_parent=parent
        ),
    ):
        pass
    assert not started
    assert list(parent.iterdir()) == []


def test_a_dump_of_a_major_that_is_not_here_is_told(parent: Path) -> None:
    with (
        pytest.raises(PermanentError, match=r"no server of major 99 or newer is installed here; found: \d+"),
        open_scratch(scratch_environment(), manifest_of(99), run_id="1", work_parent=parent),
    ):
        pass


def test_an_older_dump_goes_to_the_next_newer_server_and_that_is_noted() -> None:
    assert find_server(SMALLEST - 1).major == SMALLEST
    notes = scratch_embedded._notes(
        find_server(SMALLEST - 1), manifest_of(SMALLEST - 1), scratch_environment().databases["app"]
    )
    assert f"no server of major {SMALLEST - 1} is installed" in next(notes)


def test_a_server_that_does_not_start_says_why_and_leaves_nothing(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scratch_embedded, "base_settings", lambda _: {"shared_buffers": "nonsense"})
    with (
        pytest.raises(PermanentError, match=r'start PostgreSQL.*invalid value for parameter "shared_buffers"'),
        open_scratch(scratch_environment(tuned=False), manifest_of(SMALLEST), run_id="1", work_parent=parent),
    ):
        pass
    assert list(parent.iterdir()) == []


KILLED = (
    "import os, sys; from pathlib import Path; from tasks.scratch import open_scratch\n"
    "from tests.fix_scratch import manifest_of, scratch_environment\n"
    "with open_scratch(scratch_environment(), manifest_of(int(sys.argv[2])), run_id='killed', work_parent=Path(sys.argv[1])):\n"
    "    os.kill(os.getpid(), 9)\n"
)


def test_a_killed_drills_server_ends_and_the_next_drill_sweeps_its_folder(parent: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(parent), str(SMALLEST)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -9, done.stderr
    assert sweep_scratch(scratch_environment(name="other"), work_parent=parent) == ()
    (left,) = parent.iterdir()
    gone = [
        process for process in psutil.process_iter(["cmdline"]) if str(left) in " ".join(process.info["cmdline"] or ())
    ]
    psutil.wait_procs(gone, timeout=60)
    assert not [process for process in gone if lives(process)]
    (removed,) = sweep_scratch(scratch_environment(), work_parent=parent)
    assert removed.endswith("of the killed drill killed")
    assert list(parent.iterdir()) == []


AS_NOBODY = (
    "import sys; from pathlib import Path; from tasks.scratch import open_scratch; from tasks.postgres import connect\n"
    "from tests.fix_scratch import manifest_of, scratch_environment\n"
    "with open_scratch(scratch_environment(require_isolation=True), manifest_of(int(sys.argv[2])), run_id='1', work_parent=Path(sys.argv[1])) as scratch:\n"
    "    with connect(scratch.login, application_name='test') as connection:\n"
    "        print(connection.execute('SELECT 1').fetchone(), *scratch.isolation, *scratch.notes, sep='\\n')\n"
)


@as_root
@pytest.mark.services  # a second whole server: a few seconds of processor time
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not here")
def test_an_ordinary_user_has_one_too(parent: Path) -> None:
    # The system's own Python with our packages: ours may lie where only root can go.
    python = f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"
    packages = f"{CHECKOUT}:{sysconfig.get_path('purelib')}"
    nobody = pwd.getpwnam("nobody")
    os.chown(parent, nobody.pw_uid, nobody.pw_gid)
    become = ["setpriv", "--reuid=nobody", f"--regid={nobody.pw_gid}", "--clear-groups"]
    given = {"PATH": "/usr/bin:/bin", "HOME": str(parent), "PYTHONPATH": packages, "PYTHONDONTWRITEBYTECODE": "1"}
    probe = subprocess.run(
        [*become, python, "-c", "import psycopg, core"], env=given, cwd="/", check=False, capture_output=True
    )
    if probe.returncode != 0:
        leave_out(f"an ordinary user has no Python here that sees our packages: {probe.stderr!r}")
    done = subprocess.run(
        [*become, python, "-c", AS_NOBODY, str(parent), str(SMALLEST)],
        cwd="/",
        env=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("(1,)\n")
    assert "no network" in done.stdout
    assert "another OS user" not in done.stdout


def test_memory_is_the_control_groups_where_that_is_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    limit.write_text("268435456\n")
    monkeypatch.setattr(scratch_embedded, "_CGROUP_LIMITS", (limit, tmp_path / "missing"))
    assert scratch_embedded.memory_bytes() == 256 << 20
    limit.write_text("max\n")
    assert scratch_embedded.memory_bytes() > 256 << 20


def test_paths_below_another_one_are_shown_with_it() -> None:
    assert scratch_isolation._outermost(["/usr", "/usr/lib/x", "/opt/x", "/usr", "/usrx"]) == [
        "/usr",
        "/opt/x",
        "/usrx",
    ]
