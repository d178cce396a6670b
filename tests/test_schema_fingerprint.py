"""The fingerprint of a schema: the same after a restore, another after a change."""

from collections.abc import Callable
from pathlib import Path

import pytest

from core.digest_sql import PINNED_SETTINGS
from tasks.postgres import connect, pin_session
from tasks.schema_fingerprint import plain_expression, schema_fingerprint
from tests.fix_postgres import PostgresServer

SCHEMA = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    # PostgreSQL prints the varchar's list otherwise after a restore than before.
    "CREATE TABLE t (id serial PRIMARY KEY, status varchar(10) DEFAULT 'a' CHECK (status IN ('a', 'b')), m mood, n numeric(10, 2) NOT NULL)",
    "CREATE INDEX t_status ON t (lower(status)) WHERE status IN ('a', 'b')",
    "CREATE VIEW v AS SELECT id, status FROM t WHERE status IN ('a', 'b')",
    "CREATE FUNCTION f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a'",
    "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END'",
    "CREATE TRIGGER tg BEFORE UPDATE ON t FOR EACH ROW WHEN (new.status IN ('a', 'b')) EXECUTE FUNCTION g()",
    "ALTER TABLE t ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY p ON t USING (status IN ('a', 'b'))",
)


def fingerprint(server: PostgresServer, name: str) -> str:
    with connect(server.database(name), application_name="test") as connection:
        pin_session(connection, PINNED_SETTINGS)
        return schema_fingerprint(connection)


def test_a_restore_has_the_same_fingerprint(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], tmp_path: Path
) -> None:
    name = fresh_database(any_postgres, *SCHEMA, "ALTER TABLE t ADD COLUMN gone int", "ALTER TABLE t DROP COLUMN gone")
    any_postgres.run("pg_dump", "-Fc", "-f", str(tmp_path / "dump"), dbname=name)
    restored = fresh_database(any_postgres)
    any_postgres.run("pg_restore", "--exit-on-error", f"--dbname={restored}", str(tmp_path / "dump"))
    assert fingerprint(any_postgres, name) == fingerprint(any_postgres, restored)


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE t ADD COLUMN more int",
        "ALTER TABLE t ALTER n DROP NOT NULL",
        "ALTER TABLE t ALTER n TYPE numeric(11, 2)",
        "ALTER TABLE t ALTER status SET DEFAULT 'b'",
        "ALTER TABLE t DROP CONSTRAINT t_status_check",
        "ALTER TABLE t ADD CHECK (n > 0) NOT VALID",
        "DROP INDEX t_status",
        "CREATE UNIQUE INDEX more ON t (n)",
        "CREATE OR REPLACE VIEW v AS SELECT id, status FROM t WHERE status IN ('a', 'c')",
        "CREATE OR REPLACE FUNCTION f(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT a + 1'",
        "ALTER FUNCTION f(int) SECURITY DEFINER",
        "ALTER TABLE t DISABLE TRIGGER tg",
        "DROP TRIGGER tg ON t",
        "ALTER TABLE t FORCE ROW LEVEL SECURITY",
        "ALTER POLICY p ON t USING (true)",
        "ALTER TYPE mood ADD VALUE 'happy' BEFORE 'ok'",
        "ALTER SEQUENCE t_id_seq INCREMENT 5",
        "CREATE SCHEMA more",
        "CREATE TABLE more ()",
        "CREATE DOMAIN d AS int CHECK (VALUE > 0)",
        "ALTER TABLE t SET (fillfactor = 50)",
    ],
)
def test_a_change_of_the_schema_changes_the_fingerprint(
    postgres_18: PostgresServer, fresh_database: Callable[..., str], change: str
) -> None:
    name = fresh_database(postgres_18, *SCHEMA)
    before = fingerprint(postgres_18, name)
    postgres_18.execute(name, change)
    assert fingerprint(postgres_18, name) != before


def test_rows_and_owners_do_not_matter(postgres_18: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(postgres_18, *SCHEMA)
    before = fingerprint(postgres_18, name)
    postgres_18.execute(
        name, "INSERT INTO t (n) VALUES (1)", "ALTER TABLE t OWNER TO pg_monitor", "GRANT SELECT ON t TO PUBLIC"
    )
    assert fingerprint(postgres_18, name) == before


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[]))",
            "((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text]))",
        ),
        ("(a)::numeric(10,2)", "a"),
        ("now()::timestamp(3) without time zone", "now()::timestamp with time zone"),
        ('x::"Odd Schema"."Odd type"[] + 1', "x + 1"),
    ],
)
def test_expressions_are_told_without_their_casts(before: str, after: str) -> None:
    assert plain_expression(before) == plain_expression(after)


def test_expressions_that_differ_stay_different() -> None:
    assert plain_expression("(a > 1)") != plain_expression("(a > 10)")
