"""The coordinator against real servers: one backup at a time, and a TRUNCATE, ALTER, DROP or CREATE at each moment that matters."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from core.environment_database import Database
from core.errors import PermanentError, TemporaryError
from tasks.digests import compute_digests
from tasks.snapshot import HeldSnapshot, hold_snapshot
from tests.fix_postgres import PostgresServer

TABLES = (
    "CREATE TABLE a (id int PRIMARY KEY, v text)",
    "INSERT INTO a SELECT g, 'v' || g FROM generate_series(1, 10) AS g",
    "CREATE TABLE b (id int)",
    "INSERT INTO b VALUES (1)",
)


def rows_of(database: Database, held: HeldSnapshot) -> dict[str, int | None]:
    result = compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)
    names = {table.oid: table.qualified for table in held.inventory.tables}
    return {names[oid]: counted.rows for oid, counted in result.tables.items()}


def at(point: str, action: Callable[[], None], *, times: int = 1) -> Callable[[str], None]:
    """A pause that runs the action at a point, the first so many times."""
    left = [times]

    def pause(reached: str) -> None:
        if reached == point and left[0] > 0:
            left[0] -= 1
            action()

    return pause


def test_the_snapshot_tells_where_and_when_it_was_taken(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_postgres, *TABLES)
    before = datetime.now(UTC)
    with hold_snapshot(any_postgres.database(name), backup_key="production/app") as held:
        assert before - timedelta(seconds=1) < held.time < datetime.now(UTC) + timedelta(seconds=1)
        assert held.time.utcoffset() == timedelta(0)
        assert held.server.version_number // 10000 == any_postgres.major
        assert held.server.timeline == 1
        assert int(held.server.system_identifier) > 10**18
        assert not held.server.in_recovery
        with any_postgres.connect(name) as other:
            row = other.execute(
                "SELECT oid, (SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nightshift production/app')"
                " FROM pg_database WHERE datname = current_database()"
            ).fetchone()
        assert row == (held.server.database_oid, 1)
        held.check()


def test_pg_dump_and_digests_see_the_same_rows_though_they_are_deleted_meanwhile(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_postgres, *TABLES)
    database = any_postgres.database(name)
    with hold_snapshot(database, backup_key="x") as held:
        any_postgres.execute(name, "DELETE FROM a WHERE id > 3", "INSERT INTO b VALUES (2)")
        assert rows_of(database, held) == {"public.a": 10, "public.b": 1}
        dump = any_postgres.run("pg_dump", f"--snapshot={held.name}", "--data-only", "--table=a", dbname=name).stdout
    assert dump.count("\tv") == 10


def test_a_second_backup_of_the_same_database_is_refused_and_one_of_another_is_not(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name, other = fresh_database(postgres_18, *TABLES), fresh_database(postgres_18)
    with hold_snapshot(postgres_18.database(name), backup_key="first"):
        with (
            pytest.raises(PermanentError, match=r"already being backed up by pid \d+ \(nightshift first"),
            hold_snapshot(postgres_18.database(name), backup_key="second"),
        ):
            pass
        with hold_snapshot(postgres_18.database(other), backup_key="third"):
            pass
    with hold_snapshot(postgres_18.database(name), backup_key="fourth"):
        pass


def test_a_truncate_after_the_list_is_seen_by_all_as_done(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_postgres, *TABLES)
    database = any_postgres.database(name)
    pause = at("listed", lambda: any_postgres.execute(name, "TRUNCATE a"))
    with hold_snapshot(database, backup_key="x", pause=pause) as held:
        assert rows_of(database, held) == {"public.a": 0, "public.b": 1}


@pytest.mark.parametrize("point", ["locked", "exported"])
@pytest.mark.parametrize(
    "statement",
    ["TRUNCATE a", "ALTER TABLE a ADD COLUMN more int DEFAULT 7", "ALTER TABLE a ALTER id TYPE bigint", "DROP TABLE a"],
)
def test_what_rewrites_a_table_waits_from_the_lock_on(
    postgres_15: PostgresServer, fresh_database: Callable[..., str], point: str, statement: str
) -> None:
    name = fresh_database(postgres_15, *TABLES)
    database = postgres_15.database(name)

    def meddle() -> None:
        with pytest.raises(psycopg.errors.LockNotAvailable):
            postgres_15.execute(name, f"SET lock_timeout = '200ms'; {statement}")

    with hold_snapshot(database, backup_key="x", pause=at(point, meddle)) as held:
        assert rows_of(database, held) == {"public.a": 10, "public.b": 1}


@pytest.mark.parametrize(
    ("statement", "tables"),
    [
        ("CREATE TABLE c AS SELECT 1 AS id", {"public.a": 10, "public.b": 1, "public.c": 1}),
        ("DROP TABLE b", {"public.a": 10}),
        ("ALTER TABLE b RENAME TO c", {"public.a": 10, "public.c": 1}),
        (
            "ALTER TABLE a RENAME TO x; ALTER TABLE b RENAME TO a; ALTER TABLE x RENAME TO b",
            {"public.a": 1, "public.b": 10},
        ),
        ("CREATE SCHEMA s; ALTER TABLE b SET SCHEMA s", {"public.a": 10, "s.b": 1}),
    ],
)
def test_a_changed_list_of_tables_is_taken_anew(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], statement: str, tables: dict[str, int]
) -> None:
    name = fresh_database(postgres_18, *TABLES)
    database = postgres_18.database(name)
    with hold_snapshot(
        database, backup_key="x", pause=at("listed", lambda: postgres_18.execute(name, statement))
    ) as held:
        assert rows_of(database, held) == tables
        assert held.inventory.exclude_schemas == ()


def test_a_table_made_between_locks_and_snapshot_is_locked_at_the_next_attempt(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18, *TABLES)
    database = postgres_18.database(name)
    pause = at("locked", lambda: postgres_18.execute(name, "CREATE TABLE c AS SELECT 1 AS id"))
    with hold_snapshot(database, backup_key="x", pause=pause) as held:
        assert rows_of(database, held)["public.c"] == 1
        with pytest.raises(psycopg.errors.LockNotAvailable):
            postgres_18.execute(name, "SET lock_timeout = '200ms'; TRUNCATE c")


def test_tables_that_never_stop_changing_are_a_temporary_error(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18, *TABLES)
    number = iter(range(100))

    def meddle() -> None:
        postgres_18.execute(name, f"CREATE TABLE more_{next(number)} ()")

    with (
        pytest.raises(TemporaryError, match=r"tables changed at each of 5 attempts, last: public\.more_4"),
        hold_snapshot(postgres_18.database(name), backup_key="x", pause=at("listed", meddle, times=99)),
    ):
        pass


def test_a_lock_that_is_not_to_be_had_names_its_holder(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18, *TABLES)
    with postgres_18.connect(name, autocommit=False) as holder:
        holder.execute("TRUNCATE a")
        with (
            pytest.raises(TemporaryError, match=rf"public\.a is held by pid {holder.info.backend_pid}: TRUNCATE a"),
            hold_snapshot(postgres_18.database(name, lock_timeout_seconds=1), backup_key="x"),
        ):
            pass
        holder.rollback()


def test_time_outs_of_role_and_database_do_not_end_a_backup(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(any_postgres, "SUPERUSER")
    name = fresh_database(any_postgres, *TABLES)
    limits = [
        "statement_timeout = '300ms'",
        "idle_in_transaction_session_timeout = '300ms'",
        "idle_session_timeout = '300ms'",
    ]
    if any_postgres.major >= 17:
        limits.append("transaction_timeout = '300ms'")
    any_postgres.execute(name, *(f"ALTER ROLE {role} SET {limit}" for limit in limits))
    database = any_postgres.database(name, user=role, password=password)
    with hold_snapshot(database, backup_key="x") as held:
        threading.Event().wait(0.8)
        held.check()
        assert rows_of(database, held) == {"public.a": 10, "public.b": 1}


def test_a_session_that_is_ended_by_an_administrator_is_found_out(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(postgres_18, *TABLES)
    with hold_snapshot(postgres_18.database(name), backup_key="x") as held:
        postgres_18.execute("postgres", f"SELECT pg_terminate_backend({held.connection.info.backend_pid}, 5000)")
        with pytest.raises(TemporaryError, match="keep the snapshot"):
            held.check()


def test_a_table_that_the_role_may_not_read_is_named(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(postgres_18)
    name = fresh_database(postgres_18, *TABLES)
    with (
        pytest.raises(PermanentError, match=r"permission denied for table a.*GRANT pg_read_all_data"),
        hold_snapshot(postgres_18.database(name, user=role, password=password), backup_key="x"),
    ):
        pass


def test_an_included_schema_excludes_all_others_by_name(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        postgres_18, *TABLES, 'CREATE SCHEMA "Odd *"', 'CREATE TABLE "Odd *".t (i int)', "CREATE SCHEMA s"
    )
    with hold_snapshot(postgres_18.database(name, include_schemas=("Odd *",)), backup_key="x") as held:
        assert [table.qualified for table in held.inventory.tables] == ["Odd *.t"]
        assert held.inventory.exclude_schemas == ("public", "s")
        assert {item.name for item in held.inventory.not_in_backup if item.kind == "schema"} == {"public", "s"}


def test_names_are_looked_up_in_pg_catalog_whatever_the_roles_search_path(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(postgres_18, "SUPERUSER")
    name = fresh_database(
        postgres_18,
        *TABLES,
        "CREATE SCHEMA trap",
        "CREATE FUNCTION trap.never(text, text) RETURNS bool LANGUAGE sql AS 'SELECT false'",
        "CREATE OPERATOR trap.= (LEFTARG = text, RIGHTARG = text, FUNCTION = trap.never)",
        "CREATE FUNCTION trap.hashint8extended(bigint, bigint) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",
        f"ALTER ROLE {role} SET search_path = trap, pg_catalog, public",
        f"ALTER ROLE {role} SET statement_timeout = '50ms'",
    )
    database = postgres_18.database(name, user=role, password=password)
    with hold_snapshot(database, backup_key="x") as held:
        result = compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)
    assert all(counted.digest != "0" for counted in result.tables.values())
