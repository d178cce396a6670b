"""What is looked at before a backup: each thing that can be wrong, made wrong on a real server."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from core.checks import Check, failed_checks
from core.environment_database import Database
from tasks.preflight_postgres import check_postgres
from tests.fix_postgres import PostgresServer, end_server, make_server


def checks_of(database: Database) -> dict[str, Check]:
    return {check.name.removeprefix("app: "): check for check in check_postgres("staging", "app", database)}


def test_a_server_in_order_passes_every_check(any_postgres: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(any_postgres, "CREATE TABLE t (a serial)", "SELECT lo_create(0)")
    checks = checks_of(any_postgres.database(name))
    assert {check.state for check in checks.values()} == {"passed"}
    assert set(checks) == {
        "connection",
        "server",
        "client programs",
        "schemas",
        "privileges",
        "row security",
        "large objects",
        "locks",
        "clock",
        "recovery",
    }
    assert str(any_postgres.major) in checks["server"].found


def test_what_the_role_cannot_read_is_named_with_the_grant_that_helps(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(any_postgres)
    name = fresh_database(
        any_postgres,
        "CREATE SCHEMA s",
        "CREATE TABLE s.open (a int)",
        "GRANT SELECT ON s.open TO PUBLIC",
        'CREATE TABLE "Closed" (a int)',
        "CREATE SEQUENCE counter",
        *(f"CREATE TABLE many_{number} ()" for number in range(12)),
        "SELECT lo_create(4711)",
    )
    database = any_postgres.database(name, user=role, password=password)
    checks = checks_of(database)
    privileges = checks["privileges"]
    assert privileges.state == "failed"
    assert 'cannot read 15 tables or sequences: public."Closed", public.counter, public.many_0' in privileges.found
    assert "and 5 more" in privileges.found
    assert f'GRANT pg_read_all_data TO "{role}"' in privileges.next_step
    assert checks["large objects"].found.endswith("cannot read 1 large object: 4711")
    any_postgres.execute(name, f"GRANT pg_read_all_data TO {role}", f"GRANT SELECT ON LARGE OBJECT 4711 TO {role}")
    assert failed_checks(checks_of(database).values()) == ()


def test_row_security_is_found_and_bypassrls_helps(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(any_postgres, "IN ROLE pg_read_all_data")
    name = fresh_database(
        any_postgres,
        "CREATE TABLE secret (a int)",
        "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
        "CREATE TABLE plain (a int)",
    )
    database = any_postgres.database(name, user=role, password=password)
    check = checks_of(database)["row security"]
    assert (check.state, check.found) == ("failed", f"hides rows from {role} in 1 table: public.secret")
    assert f'ALTER ROLE "{role}" BYPASSRLS' in check.next_step
    any_postgres.execute(name, f"ALTER ROLE {role} BYPASSRLS")
    assert checks_of(database)["row security"].state == "passed"


def test_an_excluded_schema_need_not_be_readable(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(postgres_18)
    name = fresh_database(postgres_18, "CREATE SCHEMA auth", "CREATE TABLE auth.users (a serial)")
    assert checks_of(postgres_18.database(name, user=role, password=password))["privileges"].state == "failed"
    database = postgres_18.database(name, user=role, password=password, exclude_schemas=("auth",))
    assert checks_of(database)["privileges"].state == "passed"


def test_schemas_that_are_not_there_are_named(postgres_18: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(postgres_18)
    included = checks_of(postgres_18.database(name, include_schemas=("public", "nowhere")))["schemas"]
    excluded = checks_of(postgres_18.database(name, exclude_schemas=("nowhere",)))["schemas"]
    assert (included.state, excluded.state) == ("failed", "warning")
    assert "nowhere" in included.found
    assert "[databases.app] in the environment staging" in included.next_step


def test_role_passwords_need_a_superuser(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(postgres_18)
    name = fresh_database(postgres_18)
    database = postgres_18.database(name, user=role, password=password, role_passwords=True)
    assert checks_of(database)["role passwords"].state == "failed"
    assert checks_of(postgres_18.database(name, role_passwords=True))["role passwords"].state == "passed"


@pytest.mark.parametrize(
    ("off_by", "state"),
    [(0, "passed"), (59, "passed"), (-90, "warning"), (90, "warning"), (400, "failed"), (-400, "failed")],
)
def test_a_clock_that_is_off_is_noticed(postgres_18: PostgresServer, off_by: int, state: str) -> None:
    checks = check_postgres(
        "staging", "app", postgres_18.database("postgres"), now=lambda: datetime.now(UTC) + timedelta(seconds=off_by)
    )
    assert next(check.state for check in checks if check.name == "app: clock") == state


def test_a_server_out_of_reach_is_one_failed_check(postgres_18: PostgresServer) -> None:
    checks = checks_of(postgres_18.database("no_such_database"))
    assert list(checks) == ["connection"]
    assert checks["connection"].state == "failed"
    assert "does not exist" in checks["connection"].found


def test_a_lock_table_that_is_too_small_is_found_before_the_backup() -> None:
    server = make_server(18, max_locks_per_transaction="10", max_connections="10", max_worker_processes="2")
    try:
        with server.connect() as connection:
            for batch in range(6):
                connection.execute(
                    f"DO $$ BEGIN FOR i IN 1..60 LOOP EXECUTE format('CREATE TABLE t_%s_%s (a text)', {batch}, i); END LOOP; END $$"
                )
        check = checks_of(server.database("postgres"))["locks"]
        assert check.state in {"warning", "failed"}
        assert "Set max_locks_per_transaction = " in check.next_step
    finally:
        end_server(server)


def test_a_backup_of_no_table_is_a_warning(postgres_16: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(postgres_16, "CREATE TABLE t (a int)")
    database = postgres_16.database(name)
    assert "tables" not in checks_of(database)
    tables = checks_of(database.model_copy(update={"exclude_schemas": ("public",)}))["tables"]
    assert (tables.state, tables.found) == ("warning", f"there is no table to back up in database {name}")
    assert "exclude_schemas in [databases.app] in the environment staging" in tables.next_step
