"""A database whose owner has set for its sessions all that could stand in the way of ours is backed up, drilled, restored and masked like any other, and keeps it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.checks import Check
from core.environment_restore import Invariant
from tasks.catalogue import read_catalogue
from tasks.invariants import check_invariants
from tasks.object_store import ObjectStore
from tasks.postgres import connect
from tasks.restored_session import connect_to_copy
from tests.fix_nightly import Night
from tests.fix_postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("prefect")

SETTINGS = {
    "array_nulls": "off",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "exit_on_error": "on",
    "idle_session_timeout": "'5s'",
    "idle_in_transaction_session_timeout": "'5s'",
    "lock_timeout": "'1ms'",
    "row_security": "off",
    "search_path": "elsewhere",
    "session_replication_role": "replica",
    "standard_conforming_strings": "off",
    "statement_timeout": "'50ms'",
    "temp_file_limit": "0",
    "transform_null_equals": "on",
    "zero_damaged_pages": "on",
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Asia/Kathmandu'",
    "bytea_output": "escape",
    "extra_float_digits": "'-3'",
}
MORE = (
    "CREATE TABLE odd (words text[], span interval, raw bytea, amount float8, seen timestamptz)",
    "INSERT INTO odd SELECT '{a,NULL}', '-1 year -2 mons +3 days 04:05:06', '\\x00ff5c', 0.1 + n / 7.0::float8, '2026-03-29 01:30+00' FROM generate_series(1, 20) AS n",
    "SET transform_null_equals = off; ALTER TABLE odd ADD CHECK (amount = NULL OR true)",
)


@pytest.fixture
def made(
    fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> Iterator[list[tuple[PostgresServer, str]]]:
    """Databases whose settings are taken away before the other fixtures clean up in them."""
    databases: list[tuple[PostgresServer, str]] = []
    yield databases
    for server, name in databases:
        server.execute(
            "postgres", f'ALTER DATABASE "{name}" RESET ALL', f'ALTER ROLE postgres IN DATABASE "{name}" RESET ALL'
        )


def make_hostile(server: PostgresServer, name: str, role: str) -> None:
    server.execute(name, *MORE)
    server.execute(
        "postgres",
        f"GRANT pg_read_all_data TO {role}",
        *(f'ALTER DATABASE "{name}" SET {setting} TO {value}' for setting, value in SETTINGS.items()),
        f'ALTER DATABASE "{name}" SET role TO {role}',
        f'ALTER ROLE postgres IN DATABASE "{name}" SET default_transaction_read_only TO on',
        f'ALTER ROLE postgres IN DATABASE "{name}" SET role TO {role}',
    )


def settings_of(server: PostgresServer, name: str) -> set[tuple[str, str]]:
    with server.connect("postgres") as session:
        rows = session.execute(
            "SELECT coalesce(r.rolname, ''), item FROM pg_db_role_setting AS s JOIN pg_database AS d ON d.oid = s.setdatabase"
            " LEFT JOIN pg_roles AS r ON r.oid = s.setrole CROSS JOIN LATERAL unnest(s.setconfig) AS item WHERE d.datname = %s",
            (name,),
        ).fetchall()
    return {(role, item) for role, item in rows}


def test_such_a_database_is_backed_up_proven_restored_and_masked_and_keeps_its_settings(
    night: Night, fresh_role: Callable[..., tuple[str, str]], made: list[tuple[PostgresServer, str]], tmp_path: Path
) -> None:
    server, source = night.server, night.names["first"]
    made.append((server, source))
    role, _ = fresh_role(server)
    make_hostile(server, source, role)
    night.settings["drill"] = {
        "invariants": [
            {"name": "rows", "database": "first", "sql": "SELECT count(*) FROM public.account", "expected": "500"}
        ]
    }
    state = night.run(databases=["first"])
    assert state.is_completed(), state.message
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    entry = read_catalogue(ObjectStore.open(night.environment), night.environment, "first").entries[-1]
    assert entry.state == "proven"

    file = tmp_path / "mask.sql"
    file.write_text("UPDATE public.account SET name = 'masked ' || id;\nDELETE FROM public.account WHERE id > 400;\n")
    target = f"{source}_masked"
    try:
        state = night.restore(backup="newest-proven", target=target, masking=str(file))
        assert state.is_completed(), state.message
        assert settings_of(server, target) == settings_of(server, source) != set()
        with connect_to_copy(server.database(target), application_name="test") as session:
            assert session.execute(
                "SELECT count(*), count(*) FILTER (WHERE name LIKE 'masked %') FROM public.account"
            ).fetchone() == (400, 400)
            assert session.execute(
                "SELECT reltuples FROM pg_class WHERE oid = 'public.account'::regclass"
            ).fetchone() == (400,)
    finally:
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{target}" WITH (FORCE)')


def test_what_is_set_for_sessions_on_a_copy_is_not_in_force_in_ours(
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
    fresh_role: Callable[..., tuple[str, str]],
    made: list[tuple[PostgresServer, str]],
) -> None:
    name, (role, _) = fresh_database(postgres_16), fresh_role(postgres_16)
    made.append((postgres_16, name))
    make_hostile(postgres_16, name, role)
    with connect(postgres_16.database(name), application_name="test") as session:
        assert session.execute("SELECT current_user").fetchone() == (role,)
    with connect_to_copy(postgres_16.database(name), application_name="test") as session:
        assert session.execute("SELECT current_user").fetchone() == ("postgres",)
        found = dict(session.execute("SELECT name, setting FROM pg_settings").fetchall())
    assert found["default_transaction_read_only"] == found["exit_on_error"] == found["zero_damaged_pages"] == "off"
    assert found["default_transaction_isolation"] == "read committed"
    assert found["session_replication_role"] == "origin"
    assert found["statement_timeout"] == found["lock_timeout"] == found["idle_session_timeout"] == "0"


def test_a_role_that_the_login_itself_is_set_to_stays(
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
    fresh_role: Callable[..., tuple[str, str]],
    made: list[tuple[PostgresServer, str]],
) -> None:
    name = fresh_database(postgres_16)
    made.append((postgres_16, name))
    (login, password), (own, _), (others, _) = (fresh_role(postgres_16) for _ in range(3))
    postgres_16.execute(
        "postgres",
        f"GRANT {own}, {others} TO {login}",
        f"ALTER ROLE {login} SET role TO {own}",
        f'ALTER DATABASE "{name}" SET role TO {others}',
        f'ALTER DATABASE "{name}" SET zero_damaged_pages TO on',
    )
    database = postgres_16.database(name, user=login, password=password)
    with connect_to_copy(database, application_name="test") as session:
        # What a superuser alone may set is left to whoever set it.
        assert session.execute("SELECT current_user, current_setting('default_transaction_read_only')").fetchone() == (
            own,
            "off",
        )


def test_an_invariant_is_asked_by_the_login_itself(
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
    fresh_role: Callable[..., tuple[str, str]],
    made: list[tuple[PostgresServer, str]],
) -> None:
    name, (role, _) = fresh_database(postgres_16, "CREATE TABLE seen (id int)"), fresh_role(postgres_16)
    made.append((postgres_16, name))
    postgres_16.execute("postgres", f'ALTER DATABASE "{name}" SET role TO {role}')
    rule = Invariant(name="rule", database="app", sql="SELECT count(*) FROM seen", expected="0")
    assert check_invariants(postgres_16.database(name), [rule]) == (
        Check(name="rule", state="passed", found="'0', as expected"),
    )
