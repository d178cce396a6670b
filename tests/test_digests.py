"""Digests on real servers: what they must notice, what must not change them, and how their sessions end."""

import threading
from collections.abc import Callable

import pytest

from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database, DigestRule
from tasks.digests import DigestResult, compute_digests
from tasks.postgres import connect, pin_session
from tasks.snapshot import hold_snapshot
from tests.fix_postgres import PostgresServer
from tests.waiting import wait_until

ODD_TABLE = (
    "CREATE TYPE mood AS ENUM ('sad', 'ok')",
    "CREATE TYPE pair AS (a int, b text)",
    "CREATE DOMAIN code AS numeric(10, 2)",
    """CREATE TABLE t (
        t int PRIMARY KEY, r text, i2 smallint, i8 bigint, flag bool, u uuid, b bytea, d date, ts timestamp, tz timestamptz, j jsonb, v varchar(20),
        n numeric, f float8, iv interval, js json, x xml, m mood, p pair, c code, arr text[], rng int4range, reg regclass, ch char(5), tm timetz,
        money money, bits bit varying, addr inet, double int GENERATED ALWAYS AS (t * 2) STORED)""",
    """INSERT INTO t (t, r, i2, i8, flag, u, b, d, ts, tz, j, v, n, f, iv, js, m, p, c, arr, rng, reg, ch, tm, money, bits, addr)
       SELECT g, 'r' || g, g, g * 1000000000000, g % 2 = 0, md5(g::text)::uuid, decode(md5(g::text), 'hex'), date '2024-01-01' + g,
           timestamp '2024-01-01' + g * interval '1 hour', timestamptz '2024-01-01 00:00+02' + g * interval '1 hour', jsonb_build_object('k', g), 'v' || g,
           g + 1.0, g / 3.0, g * interval '1 day 01:00', '{"a": 1}', CASE g % 2 WHEN 0 THEN 'sad' ELSE 'ok' END::mood, ROW(g, 'x')::pair, g / 7.0,
           ARRAY['a', NULL, g::text], int4range(g, g + 5), 'pg_catalog.pg_class', 'c' || g, timetz '12:00+02', g::money, '101', '10.0.0.1'
       FROM generate_series(1, 20) AS g""",
)


def count(database: Database, *, stop: threading.Event | None = None) -> tuple[DigestResult, dict[str, int]]:
    """All digests of a database, and its tables' oids by name."""
    with hold_snapshot(database, backup_key="x") as held:
        result = compute_digests(database, held, stop=stop or threading.Event(), on_table=lambda _table: None)
    # A session that was closed is gone a moment later, and of two backups of a database at once the second is refused.
    maintenance = database.model_copy(update={"name": "postgres"})
    with connect(maintenance, application_name="test_digests") as looking:
        ours = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        wait_until(lambda: looking.execute(ours, [database.name]).fetchone() == (0,), f"nobody is in {database.name}")
    return result, {table.name: table.oid for table in held.inventory.tables}


def digest_of(server: PostgresServer, name: str, table: str = "t") -> tuple[int | None, str | None]:
    result, oids = count(server.database(name))
    counted = result.tables[oids[table]]
    return counted.rows, counted.digest


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE t SET r = 'other' WHERE t = 3",
        "UPDATE t SET r = CASE t WHEN 3 THEN 'r4' ELSE 'r3' END WHERE t IN (3, 4)",
        "UPDATE t SET i2 = CASE t WHEN 3 THEN 4 ELSE 3 END WHERE t IN (3, 4)",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; DELETE FROM t WHERE t = 3; INSERT INTO t SELECT (x).* FROM (SELECT o AS x FROM only_four AS o) AS y",
        "UPDATE t SET n = 4.00 WHERE t = 3",
        "UPDATE t SET r = '' WHERE t = 5",
        "UPDATE t SET m = 'sad' WHERE t = 3",
        "UPDATE t SET arr = ARRAY['a', 'NULL', '3'] WHERE t = 3",
        "UPDATE t SET js = '{\"a\":1}' WHERE t = 3",
        "UPDATE t SET iv = iv + interval '24 hours' - interval '1 day' WHERE t = 3",
        "UPDATE t SET tz = tz + interval '1 microsecond' WHERE t = 3",
        "UPDATE t SET reg = 'pg_catalog.pg_type' WHERE t = 3",
        "UPDATE t SET f = f + 1e-15 WHERE t = 1",
    ],
)
def test_a_change_changes_the_digest(
    postgres_15: PostgresServer, fresh_database: Callable[..., str], change: str
) -> None:
    name = fresh_database(
        postgres_15,
        *ODD_TABLE,
        "ALTER TABLE t DROP COLUMN double",
        "UPDATE t SET r = NULL WHERE t = 5",
        "CREATE VIEW only_four AS SELECT * FROM t WHERE t = 4",
    )
    before = digest_of(postgres_15, name)
    postgres_15.execute(name, change)
    after = digest_of(postgres_15, name)
    assert before[0] == after[0] == 20
    assert before[1] != after[1]


@pytest.mark.parametrize(("one", "other"), [("2", "[2]"), ('"x"', '["x"]'), ("[]", "{}"), ("null", "[null]")])
def test_jsonb_of_another_kind_changes_the_digest_though_its_hash_is_the_same(
    postgres_15: PostgresServer, fresh_database: Callable[..., str], one: str, other: str
) -> None:
    first = fresh_database(postgres_15, f"CREATE TABLE t AS SELECT jsonb '{one}' AS j")
    second = fresh_database(postgres_15, f"CREATE TABLE t AS SELECT jsonb '{other}' AS j")
    assert digest_of(postgres_15, first) != digest_of(postgres_15, second)


def test_order_fillers_and_settings_do_not_change_the_digest(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(any_postgres, *ODD_TABLE)
    before = digest_of(any_postgres, name)
    any_postgres.execute(
        name,
        "ALTER TABLE t ADD COLUMN gone int DEFAULT 5",
        "ALTER TABLE t DROP COLUMN gone",
        "UPDATE t SET flag = flag WHERE t % 3 = 0",
        "CLUSTER t USING t_pkey",
        f"ALTER DATABASE \"{name}\" SET DateStyle = 'German'",
        f"ALTER DATABASE \"{name}\" SET IntervalStyle = 'iso_8601'",
        f"ALTER DATABASE \"{name}\" SET TimeZone = 'Asia/Tokyo'",
        f'ALTER DATABASE "{name}" SET extra_float_digits = -10',
        f"ALTER DATABASE \"{name}\" SET bytea_output = 'escape'",
        f'ALTER DATABASE "{name}" SET quote_all_identifiers = on',
        f"ALTER DATABASE \"{name}\" SET xmlbinary = 'hex'",
    )
    assert digest_of(any_postgres, name) == before


def test_digests_of_the_same_rows_are_equal_on_every_major(
    postgres_15: PostgresServer,
    postgres_16: PostgresServer,
    postgres_18: PostgresServer,
    fresh_database: Callable[..., str],
) -> None:
    found = {
        digest_of(server, fresh_database(server, *ODD_TABLE)) for server in (postgres_15, postgres_16, postgres_18)
    }
    assert len(found) == 1


def test_tables_without_columns_or_rows_and_names_that_need_quoting_are_counted(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        any_postgres,
        "CREATE TABLE nothing ()",
        "INSERT INTO nothing DEFAULT VALUES",
        "INSERT INTO nothing DEFAULT VALUES",
        "CREATE TABLE empty (a int)",
        'CREATE TABLE "Odd ""%s"" name" (r int, "r_" int, "a %(b)s" text)',
        """INSERT INTO "Odd ""%s"" name" VALUES (1, 2, 'x')""",
    )
    result, oids = count(any_postgres.database(name))
    rows = {table: (result.tables[oid].rows, result.tables[oid].digest) for table, oid in oids.items()}
    assert rows["nothing"][0] == 2
    assert rows["empty"] == (0, "0")
    assert rows['Odd "%s" name'][0] == 1
    assert rows['Odd "%s" name'][1] not in {"0", None}


def test_a_parent_is_counted_without_its_children_and_partitions_by_themselves(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        postgres_18,
        "CREATE TABLE parent (a int)",
        "CREATE TABLE child () INHERITS (parent)",
        "INSERT INTO parent VALUES (1)",
        "INSERT INTO child VALUES (2), (3)",
        "CREATE TABLE whole (a int) PARTITION BY LIST (a)",
        "CREATE TABLE part PARTITION OF whole FOR VALUES IN (1, 2)",
        "INSERT INTO whole VALUES (1), (2)",
        "CREATE UNLOGGED TABLE loose AS SELECT 1 AS a",
    )
    result, oids = count(postgres_18.database(name))
    assert {table: result.tables[oid].rows for table, oid in oids.items()} == {
        "parent": 1,
        "child": 2,
        "part": 2,
        "loose": 1,
    }


def test_a_function_that_a_user_made_a_cast_to_text_is_not_called(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        any_postgres,
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "CREATE DOMAIN temper AS mood",
        "CREATE FUNCTION shout(mood) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'called'; END $$",
        "CREATE CAST (mood AS text) WITH FUNCTION shout(mood)",
        "CREATE TABLE t (m mood, d temper)",
        "INSERT INTO t VALUES ('ok', 'sad'), (NULL, NULL)",
    )
    before = digest_of(any_postgres, name)
    assert before[0] == 2
    any_postgres.execute(name, "UPDATE t SET d = 'ok' WHERE m = 'ok'")
    assert digest_of(any_postgres, name) != before


def test_a_virtual_column_that_cannot_be_computed_does_not_matter(
    postgres_18: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    name = fresh_database(
        postgres_18,
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (10 / a) VIRTUAL)",
        "INSERT INTO t (a) VALUES (0)",
    )
    assert digest_of(postgres_18, name)[0] == 1


def test_modes_by_table_pattern_are_kept(postgres_18: PostgresServer, fresh_database: Callable[..., str]) -> None:
    name = fresh_database(
        postgres_18,
        "CREATE SCHEMA audit",
        *(f"CREATE TABLE {table} AS SELECT 1 AS a" for table in ("audit.log", "audit.raw", "kept")),
    )
    rules = (DigestRule(tables="audit.raw", mode="off"), DigestRule(tables="audit.*", mode="counts"))
    result, oids = count(postgres_18.database(name, digest_rules=rules))
    assert result.tables[oids["raw"]].rows is None
    assert (result.tables[oids["log"]].rows, result.tables[oids["log"]].digest) == (1, None)
    assert result.tables[oids["kept"]].digest is not None


def test_large_objects_are_told_by_content_whatever_their_pages(
    any_postgres: PostgresServer, fresh_database: Callable[..., str]
) -> None:
    whole = "SELECT lo_from_bytea(40001, convert_to(repeat('0123456789', 250000), 'UTF8'))"
    name = fresh_database(any_postgres, whole, "SELECT lo_create(40002)", "SELECT lo_from_bytea(40003, 'x')")
    before = count(any_postgres.database(name))[0].large_objects
    assert (before.count, before.content_bytes) == (3, 2_500_001)
    # The same bytes, written piece by piece, with the page in the middle left until last.
    any_postgres.execute(
        name,
        "SELECT lo_unlink(40001), lo_create(40001)",
        "SELECT lo_put(40001, 0, convert_to(repeat('0123456789', 100), 'UTF8'))",
        "SELECT lo_put(40001, 3000, convert_to(repeat('0123456789', 249700), 'UTF8'))",
        "SELECT lo_put(40001, 1000, convert_to(repeat('0123456789', 200), 'UTF8'))",
    )
    assert count(any_postgres.database(name))[0].large_objects == before
    any_postgres.execute(name, "SELECT lo_put(40001, 2000000, 'y')")
    changed = count(any_postgres.database(name))[0].large_objects
    assert (changed.content_bytes, changed.digest == before.digest) == (2_500_001, False)


@pytest.mark.parametrize("mode", ["full", "counts"])
def test_many_large_objects_of_many_sizes_are_measured_one_by_one(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], mode: str
) -> None:
    name = fresh_database(
        any_postgres,
        "SELECT lo_from_bytea((50000 + (g * 7919) % 1000)::oid, convert_to(repeat('x', (g * 104729) % 3000000), 'UTF8'))"
        " FROM generate_series(1, 40) AS g",
        "ANALYZE pg_largeobject_metadata",
    )
    with any_postgres.connect(name) as connection:
        expected = connection.execute(
            "SELECT count(*), sum(length(lo_get(oid))) FROM pg_largeobject_metadata"
        ).fetchone()
    found = count(any_postgres.database(name, digests=mode))[0].large_objects
    assert (found.count, found.content_bytes) == expected
    assert (found.digest is None) == (mode == "counts")


def test_a_hole_in_a_large_object_is_zeros(postgres_18: PostgresServer, fresh_database: Callable[..., str]) -> None:
    holed = fresh_database(postgres_18, "SELECT lo_create(40001)", "SELECT lo_put(40001, 100000, 'end')")
    filled = fresh_database(
        postgres_18, r"SELECT lo_from_bytea(40001, decode(repeat('00', 100000), 'hex') || 'end'::bytea)"
    )
    digests = [count(postgres_18.database(name))[0].large_objects for name in (holed, filled)]
    assert digests[0] == digests[1]
    assert digests[0].content_bytes == 100_003


def test_the_pinned_settings_are_known_to_every_major(any_postgres: PostgresServer) -> None:
    with connect(any_postgres.database("postgres"), application_name="test") as connection:
        pin_session(connection, PINNED_SETTINGS)
        assert connection.execute("SHOW search_path").fetchone() == ("pg_catalog",)
