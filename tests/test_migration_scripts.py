"""The two shell scripts of a migration's Pod against a real PostgreSQL: the lock first, then the command, and both end by themselves."""

import time
from collections.abc import Callable

import pytest

from core.migration_scripts import HOLD, LOCK_CLASS, LOCK_OBJECT, NOT_STARTED
from tests.fix_migration import NAME, ShellPod
from tests.fix_postgres import PostgresServer
from tests.fix_proxy import TcpProxy
from tests.waiting import wait_until

TAKE = f"SELECT pg_advisory_lock({LOCK_CLASS}, {LOCK_OBJECT})"
MakePod = Callable[[str], ShellPod]
MakeDatabase = Callable[..., str]


def address(server: PostgresServer, database: str, *, port: int = 0) -> str:
    return f"postgresql://{server.superuser}:{server.password}@127.0.0.1:{port or server.port}/{database}"


def test_the_command_runs_under_the_lock_and_both_containers_end(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    database = fresh_database(postgres_16)
    pod = shell_pod(address(postgres_16, database))
    migrate = pod.run_statements(
        "CREATE TABLE t (a int)",
        "SELECT 'holder', a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) WHERE l.locktype = 'advisory' AND l.granted",
        "SELECT 'timeout', current_setting('lock_timeout')",
        "SELECT 'slept', pg_sleep(1)",
    )
    hold = pod.hold()
    out, err = migrate.communicate(timeout=30)
    assert migrate.returncode == 0, err
    assert f"holder {NAME}-lock" in out
    assert "timeout 300ms" in out
    hold.communicate(timeout=30)
    assert hold.returncode == 0
    assert pod.said("migrate") == {"started": "yes", "code": "0", "asked": "", "count": "0"}
    assert pod.said("hold") == {"holder": "", "held": "yes", "seen": "yes", "lost": "no"}
    with postgres_16.connect(database) as connection:
        wait_until(
            lambda: connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,),
            "the lock is free",
        )


def test_the_commands_exit_code_is_the_containers(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16)))
    hold, migrate = pod.hold(), pod.migrate("sh", "-c", "exit 7", pending="echo never asked")
    migrate.communicate(timeout=30)
    assert migrate.returncode == 7
    assert pod.said("migrate") == {"started": "yes", "code": "7", "asked": "", "count": "0"}
    hold.communicate(timeout=30)


def test_a_second_migrator_is_locked_out_and_told_who_holds_the_lock(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    database = fresh_database(postgres_16)
    pod = shell_pod(address(postgres_16, database))
    with postgres_16.connect(database) as other:
        other.execute("SET application_name = 'somebody''s laptop'")
        other.execute(TAKE)
        migrate = pod.migrate("sh", "-c", f"touch {pod.folder}/was-run")
        hold = pod.hold(patience=1)
        _out, err = migrate.communicate(timeout=30)
        hold.communicate(timeout=30)
        holder = pod.said("hold")
        assert holder["held"] == "no"
        assert holder["holder"] == f"pid {other.info.backend_pid}, application 'somebody''s laptop', client 127.0.0.1"
    assert migrate.returncode == NOT_STARTED
    assert "was not started" in err
    assert pod.said("migrate") == {"started": "no"}
    assert not (pod.folder / "was-run").exists()


def test_a_lock_that_comes_free_in_time_is_taken(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    database = fresh_database(postgres_16)
    pod = shell_pod(address(postgres_16, database))
    with postgres_16.connect(database) as other:
        other.execute(TAKE)
        migrate, hold = pod.migrate("true"), pod.hold(patience=20)
        time.sleep(1)
        assert migrate.poll() is None
    migrate.communicate(timeout=30)
    assert migrate.returncode == 0
    hold.communicate(timeout=30)
    assert pod.said("hold")["held"] == "yes"


def test_an_address_that_leads_nowhere_is_told_without_its_password(
    postgres_16: PostgresServer, shell_pod: MakePod
) -> None:
    pod = shell_pod(f"postgresql://postgres:not-the-password@127.0.0.1:{postgres_16.port}/postgres")
    migrate, hold = pod.migrate("true"), pod.hold(patience=1)
    migrate.communicate(timeout=30)
    _out, err = hold.communicate(timeout=30)
    assert migrate.returncode == NOT_STARTED
    assert "could not connect: FATAL:  password authentication failed" in pod.said("hold")["holder"]
    assert "not-the-password" not in err + pod.said("hold")["holder"]


def test_a_lock_whose_container_never_comes_lets_the_command_not_start(shell_pod: MakePod) -> None:
    pod = shell_pod("postgresql://nowhere")
    migrate = pod.migrate("true", limit=1)
    migrate.communicate(timeout=30)
    assert migrate.returncode == NOT_STARTED
    assert pod.said("migrate") == {"started": "no"}


def test_what_is_pending_is_told_by_number_and_name(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16)))
    hold = pod.hold()
    migrate = pod.migrate("true", pending="seq -f 'migration %03g' 1 40; echo; echo noise >&2")
    out, _err = migrate.communicate(timeout=30)
    hold.communicate(timeout=30)
    assert migrate.returncode == 0
    message = (pod.folder / "migrate.message").read_text()
    assert message.count("pending:") == 30
    assert len(message) < 4096
    assert "noise" not in message
    assert pod.said("migrate")["count"] == "40"
    assert "nightshift: pending: migration 040" in out


def test_a_server_that_goes_silent_keeps_nobody_waiting(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod, tcp_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = tcp_proxy(postgres_16.port)
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16), port=proxy.port))
    migrate, hold = pod.migrate("sleep", "2"), pod.hold()
    wait_until((pod.signals / "alive").exists, "the command runs")
    proxy.hang()
    migrate.communicate(timeout=30)
    hold.communicate(timeout=30)
    assert (migrate.returncode, hold.returncode) == (0, 0)


def test_a_lock_that_is_lost_is_told_and_taken_again_while_the_command_goes_on(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod, tcp_proxy: Callable[[int], TcpProxy]
) -> None:
    proxy = tcp_proxy(postgres_16.port)
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16), port=proxy.port))
    migrate, hold = pod.migrate("sleep", "4"), pod.hold()
    wait_until((pod.signals / "alive").exists, "the command runs")
    proxy.cut()
    migrate.communicate(timeout=30)
    _out, err = hold.communicate(timeout=30)
    assert migrate.returncode == 0
    assert pod.said("hold")["lost"] == "yes"
    assert "was lost while the migration ran" in err


def test_a_command_that_is_told_to_end_is_told_and_its_code_kept(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod
) -> None:
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16)))
    hold = pod.hold()
    migrate = pod.migrate("sh", "-c", "trap 'sleep 1; exit 9' TERM; while :; do sleep 0.1; done")
    wait_until((pod.signals / "alive").exists, "the command runs")
    time.sleep(0.3)
    migrate.terminate()
    migrate.communicate(timeout=30)
    hold.communicate(timeout=30)
    assert pod.said("migrate")["code"] == "9"


def test_the_lock_is_let_go_when_the_migrations_container_was_killed(
    postgres_16: PostgresServer, fresh_database: MakeDatabase, shell_pod: MakePod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.fix_migration.HOLD", HOLD.replace("-gt 30", "-gt 2"))
    pod = shell_pod(address(postgres_16, fresh_database(postgres_16)))
    hold = pod.hold()
    (pod.signals / "ready").touch()
    (pod.signals / "alive").write_text(f"{int(time.time())}\n")
    hold.communicate(timeout=30)
    assert hold.returncode == 0
