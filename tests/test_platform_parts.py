"""The one-machine platform's parts: PostgreSQL, the S3 stand-in, services and their supervisor, ports, and how each failure is said."""

import grp
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from core.errors import ConfigurationError, PermanentError
from deployments.local import embedded_postgres, leash
from deployments.local import platform as platform_module
from deployments.local.data_folder import CHECKOUT, DataFolder
from deployments.local.embedded_postgres import EmbeddedPostgres
from deployments.local.object_store_server import ObjectStoreServer
from deployments.local.ports import HOST, free_port
from deployments.local.prefect_server import PrefectServer
from deployments.local.service import Service, log_tail
from deployments.local.supervisor import RESTARTS, Supervisor
from tasks.postgres_binaries import find_binaries
from tasks.server_account import can_run, copy_for, server_account
from tests.fix_platform import below, make_platform, wait_until_gone
from tests.leave_out import leave_out

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another OS user")


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[DataFolder]:
    """A claimed data folder."""
    claimed = DataFolder(tmp_path / "data")
    claimed.claim()
    yield claimed
    claimed.release()


@pytest.mark.parametrize("choice", [pytest.param("machine", marks=pytest.mark.services), "wheel"])
def test_postgresql_of_the_machine_and_of_the_wheel_start_and_are_closed_to_others(
    folder: DataFolder, choice: str
) -> None:
    try:
        server = EmbeddedPostgres(folder, choice=choice)
    except ConfigurationError as error:
        assert choice == "machine"
        leave_out(str(error))
    try:
        server.start()
        with psycopg.connect(server.admin_conninfo) as connection:
            row = connection.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('password_encryption')"
            ).fetchone()
            assert row is not None
            assert (row[0] // 10000, row[1]) == (int(server.version.split(".")[0]), "scram-sha-256")
            rules = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules").fetchall()
            assert rules == [("scram-sha-256",)]
        assert server.service.process is not None
        assert psutil.Process(server.service.process.pid).uids().effective != 0
        assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
        assert (server.socket_folder / f".s.PGSQL.{server.port}").is_socket()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(psycopg.conninfo.make_conninfo(server.admin_conninfo, password="wrong")).close()
    finally:
        server.service.stop()


def test_an_unknown_choice_of_postgresql_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIGHTSHIFT_DEMO_POSTGRES", "oracle")
    with pytest.raises(ConfigurationError, match="not one of machine, wheel"):
        find_binaries()


@as_root
def test_programs_that_the_other_os_user_cannot_reach_are_copied_for_it(
    folder: DataFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As in a checkout below /root.
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    wheel = find_binaries("wheel").parents[1]
    tree = closed / "site-packages" / wheel.name / "pginstall18"
    shutil.copytree(wheel / tree.name, tree, symlinks=True)
    shutil.copytree(wheel.with_suffix(".libs"), tree.parents[1] / f"{wheel.name}.libs")
    assert not can_run(tree / "bin" / "postgres", server_account())
    monkeypatch.setattr(embedded_postgres, "find_binaries", lambda _choice: tree / "bin")
    server = EmbeddedPostgres(folder)
    try:
        server.start()
        assert server.service.process is not None
        assert psutil.Process(server.service.process.pid).exe().startswith(str(folder.postgres))
    finally:
        server.service.stop()


@as_root
def test_a_copy_belongs_to_the_other_os_user(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "file").write_text("x")
    account = server_account()
    assert account is not None
    copy_for(tmp_path / "tree", tmp_path / "copy", account)
    assert (tmp_path / "copy" / "file").stat().st_uid == account.user_id


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv (util-linux) is not here")
def test_postgresql_and_the_s3_stand_in_start_without_root(tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    place = Path("/var/tmp") / f"nightshift-test-{os.getpid()}"
    place.mkdir(mode=0o700)
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    code = (
        "import os, sys; from pathlib import Path; from deployments.local.data_folder import DataFolder; "
        "from deployments.local.embedded_postgres import EmbeddedPostgres; from deployments.local.object_store_server import ObjectStoreServer; "
        "folder = DataFolder(Path(sys.argv[1]) / 'data'); folder.claim(); postgres, store = EmbeddedPostgres(folder), ObjectStoreServer(folder, 'bucket-1'); "
        "store.start(); postgres.start(); store.make_buckets(); print('both answer as', os.geteuid()); "
        "postgres.service.stop(); store.service.stop(); folder.release()"
    )
    # Python itself may lie below /root: nobody may read everything here, and write nothing.
    rights = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]
    group = grp.getgrgid(nobody.pw_gid).gr_name
    try:
        done = subprocess.run(
            [
                "setpriv",
                "--reuid=nobody",
                f"--regid={group}",
                "--clear-groups",
                *rights,
                sys.executable,
                "-c",
                code,
                str(place),
            ],
            cwd=CHECKOUT,
            env={**os.environ, "HOME": str(place), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert done.stdout == f"both answer as {nobody.pw_uid}\n", done.stderr
    finally:
        shutil.rmtree(place)


def test_none_of_the_users_prefect_settings_reach_the_platform(
    folder: DataFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example.com/api")
    monkeypatch.setenv("PREFECT_API_KEY", "theirs")
    monkeypatch.setenv("NIGHTSHIFT_LOCAL__STORE__BUCKET", "theirs")
    server = PrefectServer(folder, preferred_port=0)
    variables = server.environment({})
    assert variables["PREFECT_API_URL"] == server.api_url
    assert variables["PREFECT_HOME"] == str(folder.prefect_home)
    assert "theirs" not in variables.values()
    assert not {"PREFECT_API_KEY", "NIGHTSHIFT_LOCAL__STORE__BUCKET"} & variables.keys()


def test_a_taken_port_is_given_way_to(folder: DataFolder) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert PrefectServer(folder, preferred_port=port).port != port
    assert free_port(port) == port


def test_a_server_that_cannot_start_says_so_in_one_line_with_the_end_of_its_log(folder: DataFolder) -> None:
    import socket

    store = ObjectStoreServer(folder, "bucket-1")
    with socket.socket() as taken:
        taken.bind((HOST, store.port))
        store.start()
        try:
            with pytest.raises(PermanentError, match=r"the S3 stand-in.*ended with exit code 1:.*in use") as caught:
                store.service.wait_until(lambda: False, timeout_seconds=60)
        finally:
            store.service.stop()
    assert "\n" not in str(caught.value)


def sleeper(folder: DataFolder, seconds: float, name: str = "a sleeper") -> Service:
    """A service that only sleeps, then ends with exit code 3."""
    code = f"import sys, time; print('about to sleep', flush=True); time.sleep({seconds}); sys.exit(3)"
    return Service(name, [sys.executable, "-c", code], dict(os.environ), folder.logs / "sleeper.log", folder.path)


def test_a_server_that_never_answers_is_given_up(folder: DataFolder) -> None:
    service = sleeper(folder, 600)
    service.start()
    try:
        with pytest.raises(PermanentError, match=r"did not answer within 1 s: about to sleep"):
            service.wait_until(lambda: False, timeout_seconds=1)
    finally:
        service.stop()
    assert not service.running


def test_a_server_that_does_not_heed_its_signal_is_killed(folder: DataFolder) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    service = Service(
        "a deaf one",
        [sys.executable, "-c", code],
        dict(os.environ),
        folder.logs / "deaf.log",
        folder.path,
        grace_seconds=0.5,
    )
    service.start()
    service.wait_until(lambda: "deaf" in (folder.logs / "deaf.log").read_text(), timeout_seconds=20)
    service.stop()
    assert service.process is not None
    assert service.process.returncode == -signal.SIGKILL


def test_a_server_that_dies_is_started_again_a_few_times(folder: DataFolder) -> None:
    told: list[str] = []
    restarted: list[None] = []
    supervisor = Supervisor(told.append)
    service = sleeper(folder, 0)
    supervisor.add(service, service.start, after_restart=lambda: restarted.append(None))
    with pytest.raises(PermanentError, match=r"keep a sleeper running.*exit code 3"):
        supervisor.watch(threading.Event(), every_seconds=0.2)
    supervisor.stop()
    assert len(told) == len(restarted) == RESTARTS
    assert f"Starting it again ({RESTARTS} of {RESTARTS})" in told[-1]


def test_servers_are_ended_in_reverse_order(folder: DataFolder) -> None:
    ended: list[str] = []

    class Noting(Service):
        def stop(self) -> None:
            super().stop()
            ended.append(self.name)

    supervisor = Supervisor(lambda _: None)
    for name in ("first", "second", "third"):
        one = Noting(**{**vars(sleeper(folder, 600)), "name": name})
        supervisor.add(one, one.start)
    supervisor.stop()
    assert ended == ["third", "second", "first"]


def test_the_leash_ends_what_a_worker_left_behind(folder: DataFolder) -> None:
    # The command starts a process in a session of its own and is then killed itself.
    code = (
        "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], start_new_session=True); "
        "print('ready', flush=True); time.sleep(600)"
    )
    log = folder.logs / "leash.log"
    argv = [sys.executable, str(Path(leash.__file__)), "5", sys.executable, "-c", code]
    service = Service("a leash", argv, dict(os.environ), log, folder.path)
    service.start()
    service.wait_until(lambda: "ready" in log.read_text(), timeout_seconds=20)
    assert service.process is not None
    started = below(service.process.pid)
    assert len(started) == 2
    started[0].kill()
    assert service.process.wait(60) != 0
    assert wait_until_gone(started, 20) == []


def test_a_full_disk_is_said_before_anything_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=100 * 1024**2)
    monkeypatch.setattr(platform_module.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(PermanentError, match=r"its disk has 100 MiB free, 512 MiB are needed"):
        make_platform(tmp_path / "data", probes_only=True).__enter__()
    assert sorted(path.name for path in (tmp_path / "data" / "trial").iterdir()) == ["lock", "logs"]


def test_a_folder_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "trial").write_text("a file stands where the folder should be")
    with pytest.raises(PermanentError, match="could not start the platform") as caught, suppress(FileExistsError):
        make_platform(tmp_path, probes_only=True).__enter__()
    assert "\n" not in str(caught.value)


def test_the_end_of_a_log_is_told_in_one_line_without_secrets(tmp_path: Path) -> None:
    log = tmp_path / "worker.log"
    assert log_tail(log) == ""
    log.write_text("".join(f"line {number}\n\n" for number in range(9)) + "  host=a password=hunter2 refused \n")
    assert log_tail(log, lines=2) == "line 8 | host=a password=***** refused"
