"""A database's state before and after migrations, read from real servers: names, lock row, invalid indexes, schema, living sessions."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import psycopg
import pytest

from core.errors import PermanentError
from core.migration_scripts import LOCK_CLASS, LOCK_OBJECT
from tasks.migration_state import read_state, release_stuck_lock, state_when_quiet
from tests.fix_migration import settings, state
from tests.fix_postgres import PostgresServer

MakeDatabase = Callable[..., str]
KNEX = (
    "CREATE TABLE knex_migrations (id serial PRIMARY KEY, name varchar(255), batch integer, migration_time timestamptz)",
    "CREATE TABLE knex_migrations_lock (index serial PRIMARY KEY, is_locked integer)",
    "INSERT INTO knex_migrations_lock (is_locked) VALUES (0)",
    "INSERT INTO knex_migrations (name) VALUES ('b'), ('a')",
)


def test_names_come_in_the_order_they_were_applied(any_postgres: PostgresServer, fresh_database: MakeDatabase) -> None:
    database = any_postgres.database(fresh_database(any_postgres, *KNEX))
    found = read_state(database, settings())
    assert (found.table_exists, found.names, found.locked, found.invalid_indexes, found.sessions) == (
        True,
        ("b", "a"),
        False,
        (),
        (),
    )


def test_the_migrators_own_tables_do_not_change_the_schema_and_others_do(
    any_postgres: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(any_postgres, "CREATE TABLE t (a int)")
    database = any_postgres.database(name)
    empty = read_state(database, settings())
    assert (empty.table_exists, empty.names, empty.locked) == (False, (), None)
    any_postgres.execute(name, *KNEX)
    assert read_state(database, settings()).fingerprint == empty.fingerprint
    any_postgres.execute(name, "ALTER TABLE t ADD COLUMN b int")
    assert read_state(database, settings()).fingerprint != empty.fingerprint


def test_a_table_of_another_shape_is_read_by_name_and_a_wrong_column_refused(
    postgres_16: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(
        postgres_16,
        "CREATE SCHEMA own",
        "CREATE TABLE own.done (name text)",
        "INSERT INTO own.done VALUES ('b'), ('a')",
    )
    database = postgres_16.database(name)
    assert read_state(database, settings(table="own.done", lock_table="")).names == ("a", "b")
    with pytest.raises(PermanentError, match="has the columns name, and no version"):
        read_state(database, settings(table="own.done", column="version"))


def test_an_index_that_a_failed_create_concurrently_left_is_named(
    any_postgres: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(any_postgres, "CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2)")
    with any_postgres.connect(name) as connection, pytest.raises(psycopg.errors.UniqueViolation):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY twice ON t (a)")
    assert read_state(any_postgres.database(name), settings()).invalid_indexes == ("public.twice",)


def test_sessions_that_are_migrations_are_seen_and_their_end_is_waited_for(
    postgres_16: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(postgres_16)
    database = postgres_16.database(name)
    with postgres_16.connect(name) as holder, postgres_16.connect(name) as named:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_OBJECT))
        named.execute("SET application_name = 'nightshift-migrate-r1-1'")
        found = read_state(database, settings()).sessions
        assert {(one.pid, one.why) for one in found} == {
            (holder.info.backend_pid, "holds the advisory lock of migrations"),
            (named.info.backend_pid, "has a migration's name"),
        }
        everybody = read_state(database, settings(), addresses=("127.0.0.1",)).sessions
        assert len(everybody) == 2
        assert state_when_quiet(database, settings(), seconds=0.6).sessions != ()
        threading.Timer(1, lambda: (holder.close(), named.close())).start()
        begun = time.monotonic()
        assert state_when_quiet(database, settings(), seconds=20).sessions == ()
        assert time.monotonic() - begun > 0.8


def test_a_lock_of_another_database_is_no_migration_of_ours(
    postgres_16: PostgresServer, fresh_database: MakeDatabase
) -> None:
    ours, other = fresh_database(postgres_16), fresh_database(postgres_16)
    with postgres_16.connect(other) as holder:
        holder.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_OBJECT))
        assert read_state(postgres_16.database(ours), settings()).sessions == ()


def test_a_migrators_lock_that_was_left_set_is_released_once_no_migration_lives(
    postgres_16: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(postgres_16, *KNEX)
    database = postgres_16.database(name)
    before = read_state(database, settings())
    assert not release_stuck_lock(database, settings(), before)
    postgres_16.execute(name, "UPDATE knex_migrations_lock SET is_locked = 1")
    assert read_state(database, settings()).locked
    with postgres_16.connect(name) as named:
        named.execute("SET application_name = 'nightshift-migrate-r1-1'")
        with pytest.raises(PermanentError, match="a migration still runs: pid"):
            release_stuck_lock(database, settings(), before)
    with postgres_16.connect(name, autocommit=False) as user:
        user.execute("SELECT * FROM knex_migrations_lock")
        with pytest.raises(Exception, match="lock timeout"):
            release_stuck_lock(database, settings(), before)
    with pytest.raises(PermanentError, match="another one set it"):
        release_stuck_lock(database, settings(), state(locked=True))
    assert read_state(database, settings()).locked
    assert release_stuck_lock(database, settings(), before)
    assert not read_state(database, settings()).locked


def test_traffic_waits_no_longer_than_lock_timeout_behind_a_migration(
    any_postgres: PostgresServer, fresh_database: MakeDatabase
) -> None:
    name = fresh_database(any_postgres, "CREATE TABLE busy AS SELECT 1 AS a")
    with (
        any_postgres.connect(name, autocommit=False) as reader,
        psycopg.connect(any_postgres.conninfo(name), options="-c lock_timeout=500", autocommit=True) as migration,
        any_postgres.connect(name) as traffic,
    ):
        reader.execute("SELECT count(*) FROM busy")

        def alter() -> None:
            with suppress(psycopg.errors.LockNotAvailable):
                migration.execute("ALTER TABLE busy ADD COLUMN b int")

        thread = threading.Thread(target=alter)
        thread.start()
        time.sleep(0.15)
        begun = time.monotonic()
        traffic.execute("SELECT count(*) FROM busy")
        waited = time.monotonic() - begun
        thread.join()
    assert waited < 10
