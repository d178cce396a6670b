"""Databases, their manifests, and copies restored from their dumps with pg_restore itself: for tests of what is said about a restored copy."""

import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core.archive_listing import parse_listing
from core.coverage import compare_coverage
from core.environment_database import Database
from core.manifest import Archive, Manifest, Segment, StoredPart, ToolVersions
from core.restore_record import Restored
from tasks.database_properties import read_server
from tasks.digests import compute_digests
from tasks.postgres import connect
from tasks.snapshot import hold_snapshot
from tests.fix_postgres import PostgresServer

# One of each that a comparison or a control may stumble over, in little.
SCHEMA = (
    "CREATE TYPE plan AS ENUM ('free', 'team', 'scale')",
    "CREATE TABLE account (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, balance numeric(12,2), plan plan)",
    "ALTER TABLE account ADD doubled numeric GENERATED ALWAYS AS (balance * 2) STORED, ADD since timestamptz DEFAULT '2026-01-01'",
    "INSERT INTO account (name, balance, plan) SELECT 'account ' || n, n * 1.50, (enum_range(NULL::plan))[1 + n % 3] FROM generate_series(1, 60) AS n",
    "CREATE TABLE payment (id serial PRIMARY KEY, account_id bigint NOT NULL REFERENCES account, amount int CHECK (amount <> 13))",
    "CREATE INDEX payment_amount ON payment (amount)",
    "INSERT INTO payment (account_id, amount) SELECT 1 + n % 60, n * 100 FROM generate_series(1, 90) AS n",
    "CREATE TABLE changed (id int, plan plan, note text) PARTITION BY HASH (plan)",
    "CREATE TABLE changed_0 PARTITION OF changed FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "CREATE TABLE changed_1 PARTITION OF changed FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
    "INSERT INTO changed SELECT n, (enum_range(NULL::plan))[1 + n % 3], 'note ' || n FROM generate_series(1, 30) AS n",
    "CREATE TABLE event (id int, day int, what text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)",
    "CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10)",
    "CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM (10) TO (20)",
    "CREATE INDEX event_what_only ON ONLY event (what)",
    "INSERT INTO event SELECT n, n % 20, 'what ' || n FROM generate_series(1, 40) AS n",
    "CREATE TABLE old (id int, amount int)",
    "INSERT INTO old VALUES (1, -1), (2, 2), (3, 3)",
    "ALTER TABLE old ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID",
    "CREATE TABLE secret (id int PRIMARY KEY, word text)",
    "ALTER TABLE secret ENABLE ROW LEVEL SECURITY",
    "CREATE POLICY own ON secret USING (word = current_user)",
    "INSERT INTO secret SELECT n, 'word ' || n FROM generate_series(1, 5) AS n",
    "CREATE TABLE kept (id int, word text)",
    "INSERT INTO kept SELECT n, 'kept ' || n FROM generate_series(1, 5) AS n",
    "CREATE RULE no_delete AS ON DELETE TO kept DO INSTEAD NOTHING",
    "CREATE RULE no_update AS ON UPDATE TO kept DO INSTEAD NOTHING",
    "ALTER TABLE kept ENABLE ALWAYS RULE no_delete",
    "CREATE TABLE log (at int, line text)",
    "INSERT INTO log SELECT n, 'line ' || n FROM generate_series(1, 5) AS n",
    "CREATE PUBLICATION everything FOR ALL TABLES",
    "CREATE TABLE empty (id int)",
    "CREATE TABLE single (id int)",
    "INSERT INTO single VALUES (1)",
    "CREATE TABLE same (a int, b text)",
    "INSERT INTO same SELECT 1, 'x' FROM generate_series(1, 9)",
    "CREATE TABLE no_columns ()",
    "INSERT INTO no_columns SELECT FROM generate_series(1, 3)",
    "CREATE UNLOGGED TABLE cache (key text PRIMARY KEY, value jsonb)",
    "INSERT INTO cache SELECT 'key ' || n, jsonb_build_object('n', n) FROM generate_series(1, 4) AS n",
    "CREATE MATERIALIZED VIEW total AS SELECT account_id, sum(amount) FROM payment GROUP BY account_id",
    "CREATE FUNCTION greet(who text) RETURNS text LANGUAGE sql AS 'SELECT ''hello '' || $1'",
    "CREATE SEQUENCE down INCREMENT -1 MAXVALUE 100 START 100",
    "SELECT nextval('down'), nextval('down')",
    "SELECT lo_from_bytea(770001, 'first object'), lo_from_bytea(770002, decode(repeat('00ff', 30000), 'hex'))",
    "GRANT SELECT ON account TO pg_monitor",
    "GRANT UPDATE ON LARGE OBJECT 770001 TO pg_monitor",
)

# The comment of a database that a restore is still making.
MARKER = (
    '{"backup_id":"20260101T000000Z-aaaaaa","begun":"2026-01-01T00:00:00Z","environment":"night",'
    '"nightshift":"drill","restore_id":"0123abcd"}'
)


def a_part(name: str, key: str) -> StoredPart:
    """A part that nothing stores: a manifest must have one."""
    segment = Segment(key=key, stored_bytes=1, stored_sha256="0" * 64)
    return StoredPart(
        name=name, segments=(segment,), stored_bytes=1, stored_sha256="0" * 64, plain_bytes=1, plain_sha256="0" * 64
    )


def dump_with_manifest(server: PostgresServer, database: Database, archive: Path) -> Manifest:
    """Dump a database to a file in one snapshot, and return the manifest that a backup of it would have; its parts are not stored anywhere."""
    with hold_snapshot(database, backup_key=database.name) as held:
        counted = compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)
        server.run("pg_dump", "-Fc", "-Z0", f"--snapshot={held.name}", f"--file={archive}", dbname=database.name)
    listing = server.run("pg_restore", "--list", str(archive)).stdout
    globals_sql = server.run("pg_dumpall", "--globals-only", "--no-role-passwords").stdout
    archive.with_suffix(".sql").write_text(globals_sql)
    inventory, now = held.inventory, datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest(
        backup_id="20260101T000000Z-aaaaaa",
        environment="local",
        database="app",
        snapshot_time=now,
        started=now,
        finished=now,
        tools=ToolVersions(nightshift="0", pg_dump=str(server.major), python="3"),
        server=held.server,
        archive=Archive(
            format="custom", compression="zstd", compression_level=3, parts=(a_part("dump.pgdump", "dump/00000.zst"),)
        ),
        globals=a_part("globals.sql", "globals/00000.zst"),
        tables=tuple(
            draft.counted(counted.tables[draft.oid].rows, counted.tables[draft.oid].digest)
            for draft in inventory.tables
        ),
        sequences=inventory.sequences,
        extensions=inventory.extensions,
        collations=inventory.collations,
        large_objects=counted.large_objects,
        roles=inventory.roles,
        properties=inventory.properties,
        statistics=inventory.statistics,
        schema_fingerprint=inventory.schema_fingerprint,
        coverage=compare_coverage(inventory.expected, parse_listing(listing), inventory.roles, globals_sql),
        not_in_backup=inventory.not_in_backup,
        objects=inventory.objects,
    )


def restored_record(server: PostgresServer, name: str, **more: object) -> Restored:
    """What a restore would say of this database of a server."""
    database = server.database(name)
    with connect(database, application_name="test") as connection:
        found = read_server(connection, database)
    fields: dict[str, object] = {
        "backup_id": "20260101T000000Z-aaaaaa",
        "server": "test",
        "name": name,
        "oid": found.database_oid,
        "system_identifier": found.system_identifier,
        "server_version": found.version,
        "server_version_number": found.version_number,
        "pg_restore": str(server.major),
        "phases": (),
    }
    return Restored.model_validate(fields | more)


@dataclass
class Copy:
    """A restored copy of the small database, for one test to damage."""

    server: PostgresServer
    manifest: Manifest
    name: str
    restored: Restored

    @property
    def database(self) -> Database:
        """The superuser's login."""
        return self.server.database(self.name)

    def run(self, *statements: str) -> None:
        """Run statements in the copy as superuser."""
        self.server.execute(self.name, *statements)


@dataclass
class Restorer:
    """A small database that was dumped and restored once; each copy is made of that one as a template."""

    server: PostgresServer
    manifest: Manifest
    template: str
    made: list[str] = field(default_factory=list)

    def copy(self) -> Copy:
        name = f"copy_{secrets.token_hex(4)}"
        self.made.append(name)
        self.server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE {self.template}")
        return Copy(self.server, self.manifest, name, restored_record(self.server, name))


def drop_databases(server: PostgresServer, *names: str) -> None:
    """Drop databases, with whoever is connected."""
    for name in names:
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.fixture(scope="session")
def restorer(postgres_16: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Restorer]:
    source, template = "restored_source", "restored_template"
    for name in (source, template):
        postgres_16.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
    postgres_16.execute(source, *SCHEMA)
    archive = tmp_path_factory.mktemp("restored") / "dump.pgdump"
    manifest = dump_with_manifest(postgres_16, postgres_16.database(source), archive)
    postgres_16.run("pg_restore", "--exit-on-error", f"--dbname={template}", str(archive))
    made = Restorer(postgres_16, manifest, template)
    yield made
    drop_databases(postgres_16, source, *made.made, template)


@pytest.fixture
def restored_copy(restorer: Restorer) -> Iterator[Copy]:
    """A copy of the test's own."""
    copy = restorer.copy()
    yield copy
    drop_databases(restorer.server, copy.name)
    restorer.made.remove(copy.name)


@pytest.fixture(scope="session")
def untouched_copy(restorer: Restorer) -> Copy:
    """A copy for tests that change nothing in it."""
    return restorer.copy()
