"""A real PgBouncer (1.18 of Debian 12) before a real server: a transaction pooler is found out, a session pooler is let pass."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from core.checks import failed_checks
from core.environment_database import Database
from tasks.pooler import find_pooler
from tasks.preflight_postgres import check_postgres
from tests.fix_postgres import PostgresServer, as_user, os_user_for_servers
from tests.leave_out import leave_out
from tests.ports import free_port

pytestmark = pytest.mark.services


@pytest.fixture
def bouncer(postgres_15: PostgresServer) -> Iterator[Callable[..., Database]]:
    """A factory: given a pool mode and size, return the record of the server's database `postgres` through a PgBouncer."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        leave_out("pgbouncer is not installed")
    started: list[tuple[subprocess.Popen[bytes], Path]] = []

    def start(mode: str, *, size: int = 5) -> Database:
        folder = Path(tempfile.mkdtemp(prefix="nightshift-pgbouncer-"))
        folder.chmod(0o755)
        port = free_port()
        (folder / "users.txt").write_text(f'"{postgres_15.superuser}" "{postgres_15.password}"\n')
        (folder / "pgbouncer.ini").write_text(
            f"[databases]\npostgres = host=127.0.0.1 port={postgres_15.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n"
            f"unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {folder}/users.txt\npool_mode = {mode}\ndefault_pool_size = {size}\n"
            "query_wait_timeout = 0\n"
        )
        process = subprocess.Popen(
            [program, folder / "pgbouncer.ini"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            **as_user(os_user_for_servers()),
        )
        started.append((process, folder))
        database = postgres_15.database("postgres", port=port)
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(
                    host="127.0.0.1", port=port, dbname="postgres", user="postgres", password=postgres_15.password
                ).close()
            except psycopg.OperationalError:
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                return database

    yield start
    for process, folder in started:
        process.terminate()
        process.wait(60)
        shutil.rmtree(folder)


@pytest.mark.parametrize("size", [1, 5])
def test_a_transaction_pooler_is_found_out(bouncer: Callable[..., Database], size: int) -> None:
    checks = check_postgres("staging", "app", bouncer("transaction", size=size))
    assert [check.state for check in checks] == ["failed"]
    assert "a transaction pooler stands between" in checks[0].found
    assert "direct connection" in checks[0].next_step


def test_a_statement_pooler_is_found_out(bouncer: Callable[..., Database]) -> None:
    assert find_pooler(bouncer("statement")) is not None


def test_a_session_pooler_is_let_pass(bouncer: Callable[..., Database]) -> None:
    database = bouncer("session")
    assert find_pooler(database) is None
    assert failed_checks(check_postgres("staging", "app", database)) == ()


def test_a_session_pooler_with_one_server_connection_is_too_small(bouncer: Callable[..., Database]) -> None:
    assert "no answer" in (find_pooler(bouncer("session", size=1)) or "")


def test_a_direct_connection_is_none(postgres_15: PostgresServer) -> None:
    assert find_pooler(postgres_15.database("postgres")) is None
