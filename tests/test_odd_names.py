"""Names that PostgreSQL allows and nobody expects, through backup, drill, restore and partial restore."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from psycopg import sql

from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer

# Each some tens of seconds: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

SCHEMA = "a\nschema\t\"of' \\n $1 %s ; --"
TABLES = (
    "two\nlines",
    "two lines",
    "carriage\rreturn",
    "tab\tbed",
    " blank ",
    # Line ends of Python's that are none of pg_restore's.
    "u\u2028\u2029\x85\x0b\x0c\x1e",
    "quo\"ted 'x'",
    "percent %s {}",
    "ü" * 31,
    "dot.ted",
    "\u2060zero\u200bwidth",
)
DATABASES = (
    'it\'s "my" db',
    "blank  s",
    "ünï – ✓ 数",
    "x" * 63,
    "ü" * 31,
    "new\nline",
    "back\\slash %20 a=b&c",
    "UPPER",
    "host=127.0.0.2 dbname=postgres",
    "postgresql://127.0.0.2/postgres",
)


def quoted(*names: str) -> str:
    return sql.Identifier(*names).as_string(None)


def statements() -> Iterator[str]:
    """A table of each name with what goes with one, and a partitioned one."""
    yield f"CREATE SCHEMA {quoted(SCHEMA)}"
    for table in TABLES:
        name, column = quoted(SCHEMA, table), quoted(table)
        yield f"CREATE TABLE {name} (id serial PRIMARY KEY, {column} text)"
        yield f"INSERT INTO {name} SELECT n, md5(n::text) FROM generate_series(1, 5) AS n"  # noqa: S608 - quoted
        yield f"CREATE INDEX ON {name} ({column})"
        yield f"COMMENT ON TABLE {name} IS 'a\nb'"
        yield f"GRANT SELECT ON {name} TO PUBLIC"
    whole, part = quoted(SCHEMA, "parti\ntioned"), quoted(SCHEMA, "part\n1")
    yield f"CREATE TABLE {whole} (a int) PARTITION BY RANGE (a)"
    yield f"CREATE TABLE {part} PARTITION OF {whole} FOR VALUES FROM (0) TO (9)"
    yield f"INSERT INTO {whole} VALUES (1), (2)"  # noqa: S608 - quoted


@pytest.fixture
def made(night: Night, postgres_18: PostgresServer) -> Iterator[Any]:
    """A function: given a database's name and the dump's jobs, make it with all tables, and let it be the environment's only one. All is dropped after the test."""
    names: list[str] = []

    def make(name: str, jobs: int) -> None:
        names.append(name)
        night.server.execute("postgres", f"CREATE DATABASE {quoted(name)} TEMPLATE template0")
        night.server.execute(name, *statements())
        login = night.server.database(name).model_dump(exclude_defaults=True)
        night.settings["databases"] = {"first": {**login, "jobs": jobs}}
        night.settings["servers"] = {"other": server_settings(postgres_18)}
        state = night.run()
        assert state.is_completed(), state.message

    yield make
    for server in (night.server, postgres_18):
        with server.connect() as session:
            for (name,) in session.execute("SELECT datname FROM pg_database").fetchall():
                if name in names or "_restored_" in name or name == "partly":
                    session.execute(f"DROP DATABASE {quoted(name)} WITH (FORCE)".encode())


@pytest.mark.parametrize(
    ("name", "jobs"), [(name, 1 + number % 2) for number, name in enumerate(DATABASES)] + [(DATABASES[-1], 1)]
)
def test_a_database_of_any_name_is_backed_up_proven_and_restored(night: Night, made: Any, name: str, jobs: int) -> None:
    made(name, jobs)
    for run in (night.drill, partial(night.restore, backup="newest-proven")):
        state = run()
        assert state.is_completed(), state.message
        assert "\n" not in str(state.message)
        assert night.report.verdict == "passed"


@pytest.mark.parametrize("jobs", [1, 2])
def test_tables_of_any_name_are_chosen_by_it(night: Night, made: Any, postgres_18: PostgresServer, jobs: int) -> None:
    made("names", jobs)
    patterns = [f"{SCHEMA}.{TABLES[0]}", f"{SCHEMA}.{TABLES[5]}", f"{SCHEMA}.dot.ted", f"{SCHEMA}.parti\ntioned"]
    for tables, rows in ((patterns[:1], 5), (patterns, 17), ([f"{SCHEMA}.*"], 57)):
        state = night.restore(backup="newest-decoded", target="partly", tables=tables)
        assert state.is_completed(), state.message
        assert "\n" not in str(state.message)
        facts = next(step.facts for step in night.report.steps if step.name == "restore and verify")
        assert facts["rows"] == rows
        with postgres_18.connect("partly") as session:
            row = session.execute(f"SELECT count(*) FROM {quoted(SCHEMA, TABLES[1])}".encode()).fetchone()  # noqa: S608 - quoted
        # `two lines` is another table than `two\nlines`, though pg_restore prints both alike.
        assert row == (5 if tables[0].endswith("*") else 0,)
        postgres_18.execute("postgres", "DROP DATABASE partly WITH (FORCE)")
