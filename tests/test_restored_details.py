"""Small manipulations of a restored copy, each of which changes nothing but one property of one object: a drill must not say that all is as it was."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from core.manifest import Manifest
from tasks.verify_restored import verify_restored
from tests.fix_postgres import PostgresServer
from tests.fix_restored import drop_databases, dump_with_manifest, restored_record

SCHEMA = (
    "CREATE TABLE thing (id int PRIMARY KEY, name text, body text, price int CHECK (price > 0))",
    "INSERT INTO thing SELECT n, 'thing ' || n, 'body ' || n, n FROM generate_series(1, 20) AS n",
    "ALTER TABLE thing SET (toast.autovacuum_enabled = false)",
    "CREATE INDEX thing_lower ON thing (lower(name))",
    "ALTER INDEX thing_lower ALTER COLUMN 1 SET STATISTICS 300",
    "CREATE STATISTICS thing_both ON name, body FROM thing",
    "ALTER STATISTICS thing_both SET STATISTICS 200",
    "CREATE TYPE shape AS (id int, name text)",
    "CREATE TABLE typed OF shape",
    "CREATE TEXT SEARCH DICTIONARY words (TEMPLATE = simple, STOPWORDS = english)",
    "CREATE COLLATION book (LOCALE = 'POSIX')",
    "CREATE TABLE sorted (name text COLLATE book)",
    "CREATE FUNCTION near(int, int) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT abs($1 - $2) < 3'",
    "CREATE OPERATOR ~~~ (LEFTARG = int, RIGHTARG = int, FUNCTION = near, COMMUTATOR = ~~~, RESTRICT = eqsel, JOIN = eqjoinsel)",
    "CREATE OPERATOR CLASS int_backwards FOR TYPE int USING btree AS OPERATOR 1 >, OPERATOR 2 >=, OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int)",
    "CREATE AGGREGATE total (int) (SFUNC = int4pl, STYPE = int, COMBINEFUNC = int4pl, INITCOND = '0', PARALLEL = SAFE)",
    "CREATE TYPE span AS RANGE (SUBTYPE = float8, SUBTYPE_DIFF = float8mi)",
    "CREATE FOREIGN DATA WRAPPER away OPTIONS (debug 'true')",
    "CREATE SERVER there FOREIGN DATA WRAPPER away",
    "CREATE FOREIGN TABLE far (id int OPTIONS (column_name 'a')) SERVER there",
    "CREATE PUBLICATION part_of FOR TABLE thing WHERE (id > 5)",
    "CREATE CONVERSION odd FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    'CREATE DOMAIN name_of AS text COLLATE "C"',
    "CREATE TABLE parent (id int)",
    "CREATE TABLE child (id int) INHERITS (parent)",
    "SELECT lo_from_bytea(4711, 'large')",
    "COMMENT ON LARGE OBJECT 4711 IS 'a comment'",
    "CREATE EVENT TRIGGER watch ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION public.seen()",
)
SEEN = "CREATE FUNCTION seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"

# What is done to the copy, by what it is done to.
BROKEN = {
    "storage options of long values": "ALTER TABLE thing RESET (toast.autovacuum_enabled)",
    "an index column's statistics": "ALTER INDEX thing_lower ALTER COLUMN 1 SET STATISTICS 100",
    "extended statistics' target": "ALTER STATISTICS thing_both SET STATISTICS 10",
    "a table's type": "ALTER TABLE typed NOT OF",
    "a dictionary's options": "ALTER TEXT SEARCH DICTIONARY words (STOPWORDS)",
    "a collation's locale": "UPDATE pg_collation SET colliculocale = 'en' WHERE collname = 'book'",
    "an operator's estimators": "ALTER OPERATOR ~~~ (int, int) SET (RESTRICT = NONE)",
    "an operator's commutator": "UPDATE pg_operator SET oprcom = 0 WHERE oprname = '~~~'",
    "an operator class' members": "UPDATE pg_amop SET amopopr = 518 WHERE amopstrategy = 2 AND amopopr = 525 AND amopfamily > 16383",
    "an aggregate's combine function": "UPDATE pg_aggregate SET aggcombinefn = 0 WHERE aggfnoid = 'total(int)'::regprocedure",
    "a range's difference": "UPDATE pg_range SET rngsubdiff = 0 WHERE rngtypid = 'span'::regtype",
    "a wrapper's options": "ALTER FOREIGN DATA WRAPPER away OPTIONS (SET debug 'false')",
    "a foreign column's options": "ALTER FOREIGN TABLE far ALTER COLUMN id OPTIONS (SET column_name 'b')",
    "a conversion's function": "UPDATE pg_conversion SET conproc = 'utf8_to_iso8859_1'::regproc WHERE conname = 'odd'",
    "a domain's collation": "UPDATE pg_type SET typcollation = 100 WHERE typname = 'name_of'",
    "an inherited column that is its own": "UPDATE pg_attribute SET attislocal = false WHERE attrelid = 'child'::regclass AND attname = 'id'",
    "a large object's comment": "COMMENT ON LARGE OBJECT 4711 IS NULL",
    "an event trigger's tags": "UPDATE pg_event_trigger SET evttags = '{\"DROP TABLE\"}'",
}


@dataclass
class Broken:
    server: PostgresServer
    manifest: Manifest
    template: str


@pytest.fixture(scope="module")
def rich(postgres_16: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    source, template = "details_source", "details_template"
    for name in (source, template):
        postgres_16.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
    postgres_16.execute(source, SEEN, *SCHEMA)
    archive = tmp_path_factory.mktemp("details") / "dump.pgdump"
    manifest = dump_with_manifest(postgres_16, postgres_16.database(source), archive)
    postgres_16.run("pg_restore", "--exit-on-error", f"--dbname={template}", str(archive))
    yield Broken(postgres_16, manifest, template)
    drop_databases(postgres_16, source, template)


def broken(rich: Broken, *statements: str) -> tuple[str, ...]:
    """What is told of a copy to which something was done."""
    name = "details_copy"
    rich.server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {rich.template}")
    try:
        rich.server.execute(name, *statements)
        return verify_restored(rich.server.database(name), rich.manifest, restored_record(rich.server, name)).mismatches
    finally:
        drop_databases(rich.server, name)


def test_a_copy_to_which_nothing_was_done_is_as_it_was(rich: Broken) -> None:
    assert broken(rich) == ()


@pytest.mark.parametrize("what", BROKEN)
def test_a_single_property_that_was_changed_is_seen(rich: Broken, what: str) -> None:
    found = broken(rich, BROKEN[what])
    assert found, what
