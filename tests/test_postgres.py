"""Sessions and client programs: what is set, what is inherited, what errors become."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from core.environment_database import Database
from core.errors import PermanentError, TemporaryError
from core.pg_commands import pg_dumpall_globals_command
from tasks.clients import find_clients, installed_clients
from tasks.postgres import connect, libpq_environment, translate
from tasks.program_folders import BIN_VARIABLE
from tests.fix_postgres import MAJORS, PostgresServer
from tests.leave_out import leave_out
from tests.ports import free_port


def test_a_session_has_no_time_outs_but_the_one_asked_for(any_postgres: PostgresServer) -> None:
    with connect(
        any_postgres.database("postgres"), application_name="a name", statement_timeout_seconds=7
    ) as connection:
        settings = dict(
            connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name ~ '_timeout$' OR name = 'application_name'"
            ).fetchall()
        )
    assert settings["statement_timeout"] == "7000"
    for name in ("lock_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout"):
        assert settings[name] == "0"
    assert settings.get("transaction_timeout", "0") == "0"
    assert settings["application_name"] == "a name"


def test_a_workers_own_options_do_not_reach_the_server(
    postgres_18: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGOPTIONS", "-c work_mem=123kB")
    with connect(postgres_18.database("postgres"), application_name="x") as connection:
        assert connection.execute("SHOW work_mem").fetchone() != ("123kB",)


@pytest.mark.parametrize(
    "setting", ["DATABASE {database} SET DateStyle = 'SQL, DMY'", "ROLE {role} SET DateStyle = 'SQL, DMY'"]
)
def test_the_day_on_which_a_role_expires_is_dumped_so_that_every_server_reads_the_same_day(
    postgres_18: PostgresServer,
    fresh_database: Callable[..., str],
    fresh_role: Callable[..., tuple[str, str]],
    setting: str,
) -> None:
    # In the style SQL, DMY this is 04/03/2099, which a server of the style ISO, MDY takes for the third of April.
    role, password = fresh_role(postgres_18, "SUPERUSER VALID UNTIL '2099-03-04 12:00:00+00'")
    name = fresh_database(postgres_18)
    postgres_18.execute(name, f"ALTER {setting.format(database=name, role=role)}")
    done = subprocess.run(
        pg_dumpall_globals_command(str(postgres_18.bin / "pg_dumpall"), database=name),
        env=libpq_environment(postgres_18.database(name, user=role, password=password)),
        capture_output=True,
        text=True,
        check=True,
    )
    [line] = [line for line in done.stdout.splitlines() if line.startswith(f"ALTER ROLE {role} WITH")]
    assert " VALID UNTIL '2099-03-04 " in line


@pytest.mark.parametrize(
    ("change", "kind", "found", "next_step"),
    [
        ({"user": "nobody_here"}, PermanentError, "authentication failed", "Check the role"),
        ({"name": "no_such_database"}, PermanentError, "does not exist", "Check the database's name"),
        ({"port": 1}, TemporaryError, "onnection refused", "unreachable"),
        ({"host": "no-such-host.invalid"}, TemporaryError, "", "unreachable"),
        ({"sslmode": "require"}, PermanentError, "SSL", "sslmode"),
    ],
)
def test_a_failed_connection_says_what_to_do(
    postgres_18: PostgresServer, change: dict[str, object], kind: type[Exception], found: str, next_step: str
) -> None:
    database = Database(**{**postgres_18.database("postgres").model_dump(), **change})
    with pytest.raises(kind, match=f"could not connect.*{found}.*{next_step}") as raised:
        connect(database, application_name="x")
    assert type(raised.value) is kind
    assert postgres_18.password not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.AdminShutdown("terminating connection"), TemporaryError),
        (psycopg.errors.TooManyConnections("too many clients"), TemporaryError),
        (psycopg.errors.LockNotAvailable("lock timeout"), TemporaryError),
        (psycopg.errors.SerializationFailure("conflict with recovery"), TemporaryError),
        (psycopg.errors.CannotConnectNow("starting up"), TemporaryError),
        (psycopg.OperationalError("server closed the connection unexpectedly"), TemporaryError),
        (psycopg.errors.InsufficientPrivilege("permission denied for table t"), PermanentError),
        (psycopg.errors.OutOfMemory("out of shared memory"), PermanentError),
        (psycopg.errors.UndefinedColumn("no such column"), PermanentError),
        (psycopg.errors.InvalidPassword("password authentication failed"), PermanentError),
    ],
)
def test_errors_are_temporary_or_permanent(error: psycopg.Error, kind: type[Exception]) -> None:
    assert type(translate(error, "look", "database x")) is kind


def test_client_programs_get_what_they_need_and_nothing_else(
    postgres_18: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for pg_dump")
    environment = libpq_environment(postgres_18.database("postgres"))
    assert set(environment) == {
        "PGHOST",
        "PGPORT",
        "PGDATABASE",
        "PGUSER",
        "PGPASSWORD",
        "PGSSLMODE",
        "PGAPPNAME",
        "PGCONNECT_TIMEOUT",
        "PGDATESTYLE",
        "LC_ALL",
        "PATH",
    }
    result = subprocess.run(
        [postgres_18.bin / "psql", "-XAtc", "SELECT current_user"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout == "postgres\n"


@pytest.mark.parametrize(("server", "expected"), [(14, 15), (15, 15), (16, 16), (17, 18), (18, 18)])
def test_the_smallest_client_that_is_as_new_as_the_server_is_taken(server: int, expected: int) -> None:
    if expected not in MAJORS:
        leave_out(f"PostgreSQL {expected} is not installed")
    clients = find_clients(server)
    assert clients.major == expected
    version = subprocess.run([clients.pg_dump, "--version"], capture_output=True, text=True, check=True).stdout
    assert clients.version in version


def test_a_server_newer_than_every_client_is_refused_with_what_is_installed() -> None:
    with pytest.raises(
        PermanentError,
        match=r"no pg_dump of major 99 or newer is installed here; found: .* Install postgresql-client-99",
    ):
        find_clients(99)


def test_a_folder_named_by_the_operator_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("pg_dump", "pg_dumpall", "pg_restore"):
        (tmp_path / program).write_text(f"#!{sys.executable}\nprint('{program} (PostgreSQL) 16.99')\n")
        (tmp_path / program).chmod(0o755)
    broken = tmp_path / "broken"
    broken.mkdir()
    monkeypatch.setenv(BIN_VARIABLE, f"{broken}:{tmp_path}")
    assert installed_clients()[0].folder == tmp_path
    assert find_clients(16).version == "16.99"


def test_the_servers_port_is_checked_by_a_real_connection(fresh_database: Callable[..., str]) -> None:
    database = Database(host="127.0.0.1", port=free_port(), name="x", user="x")
    with pytest.raises(TemporaryError, match="could not connect"):
        connect(database, application_name="x")
