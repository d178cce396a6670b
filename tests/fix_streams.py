"""What tests of dumps and decodes share: a database with every kind of data that a COPY has to carry, and manifests made of what was stored."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from core.manifest import (
    Archive,
    LargeObjects,
    Manifest,
    Server,
    StoredPart,
    Table,
    ToolVersions,
)
from core.pg_commands import pg_dump_command, pg_dumpall_globals_command, pg_restore_list_command
from tasks.dump_stream import Streamed, dump_to_store
from tasks.object_store import ObjectStore
from tests.fix_object_store import S3Server, environment_for
from tests.fix_postgres import PostgresServer
from tests.manifest_facts import NOTHING_ELSE

FOLDER = "local/app/20260101T000000Z-aaaaaa/"
GIB = 1024**3

SCHEMA = (
    "CREATE TABLE filler (id int PRIMARY KEY, noise text, words text)",
    r"""CREATE TABLE "ta ""ble, (COPY x FROM stdin;" (id int, "col;(,""" + '""' + r"""" text)""",
    r"""INSERT INTO "ta ""ble, (COPY x FROM stdin;" VALUES (1, E'\\.'), (2, E'a\n\\.\nb'), (3, NULL), (4, E'COPY a.b (c) FROM stdin;\n')""",
    'CREATE TABLE "line\nCOPY public.filler (id) FROM stdin;\nbreak" (id int)',
    'INSERT INTO "line\nCOPY public.filler (id) FROM stdin;\nbreak" SELECT generate_series(1, 7)',
    "CREATE TABLE empty (id int)",
    "CREATE TABLE no_columns ()",
    "INSERT INTO no_columns SELECT FROM generate_series(1, 5)",
    """CREATE SEQUENCE "odd ' sequence
COPY public.empty (id) FROM stdin;
" """,
    "CREATE UNLOGGED TABLE unlogged AS SELECT generate_series(1, 3) AS id",
    "CREATE TABLE parts (id int) PARTITION BY RANGE (id)",
    "CREATE TABLE parts_low PARTITION OF parts FOR VALUES FROM (0) TO (50)",
    "CREATE TABLE parts_high PARTITION OF parts FOR VALUES FROM (50) TO (100)",
    "INSERT INTO parts SELECT generate_series(0, 99)",
    "SELECT lo_from_bytea(0, decode(repeat('00ff0a5c2e0a', 30000), 'hex')), lo_from_bytea(0, 'x')",
    "CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM parts",
)
ROWS: dict[tuple[str, str], int] = {
    ("public", "filler"): 0,
    ("public", 'ta "ble, (COPY x FROM stdin;'): 4,
    ("public", "line\nCOPY public.filler (id) FROM stdin;\nbreak"): 7,
    ("public", "empty"): 0,
    ("public", "no_columns"): 5,
    ("public", "unlogged"): 3,
    ("public", "parts_low"): 50,
    ("public", "parts_high"): 50,
}


def filled(rows: int) -> tuple[str, ...]:
    """Statements that make the sample database; about 420 bytes a row of `filler`, half of which compresses."""
    noise = "(SELECT string_agg(md5(i::text || j::text), '') FROM generate_series(1, 8) AS j)"
    return (
        *SCHEMA,
        f"INSERT INTO filler SELECT i, {noise}, repeat('words that repeat ', 9) FROM generate_series(1, {rows}) AS i",  # noqa: S608 - a number of ours
    )


@dataclass
class Sample:
    """A sample database, and a session that holds a snapshot of it for pg_dump."""

    server: PostgresServer
    name: str
    rows: dict[tuple[str, str], int]
    snapshot: str

    @property
    def environment(self) -> dict[str, str]:
        return self.server.environment(self.name)

    def pg_dump(self, **more: Any) -> list[str]:
        return pg_dump_command(str(self.server.bin / "pg_dump"), snapshot=self.snapshot, **more)

    @property
    def listing_argv(self) -> list[str]:
        return pg_restore_list_command(str(self.server.bin / "pg_restore"))

    def dump(self, store: ObjectStore, **more: Any) -> Streamed:
        """Dump it as the nightly backup does."""
        arguments: dict[str, Any] = {
            "on": "the sample database",
            "name": "dump.pgdump",
            "relative": "dump",
            "level": 3,
            "segment_bytes": GIB,
            "listing_argv": self.listing_argv,
        }
        environment = more.pop("environment", self.environment)
        argv = more.pop("argv", None) or self.pg_dump()
        return dump_to_store(store, FOLDER, argv, environment, **(arguments | more))

    def dump_globals(self, store: ObjectStore) -> Streamed:
        """Dump roles and tablespaces."""
        argv = pg_dumpall_globals_command(str(self.server.bin / "pg_dumpall"), database=self.name)
        return dump_to_store(
            store,
            FOLDER,
            argv,
            self.environment,
            on="the globals",
            name="globals.sql",
            relative="globals",
            level=3,
            segment_bytes=GIB,
            keep_text=True,
        )


def make_database(server: PostgresServer, name: str, rows: int) -> None:
    """Make a sample database whose large table has so many rows."""
    server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
    server.execute(name, *filled(rows))


@contextmanager
def snapshot_of(server: PostgresServer, name: str, rows: int) -> Iterator[Sample]:
    """Hold a snapshot of a sample database."""
    with server.connect(name, autocommit=False) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        row = session.execute("SELECT pg_export_snapshot()").fetchone()
        assert row is not None
        yield Sample(server, name, ROWS | {("public", "filler"): rows}, row[0])


@pytest.fixture
def make_sample(fresh_database: Callable[..., str]) -> Iterator[Callable[..., Sample]]:
    """A factory: given a server, how many rows the large table has, and further statements, return a sample database of the test's own."""
    with ExitStack() as sessions:

        def make(server: PostgresServer, rows: int, *statements: str) -> Sample:
            name = fresh_database(server, *filled(rows), *statements)
            return sessions.enter_context(snapshot_of(server, name, rows))

        yield make


def _shared(server: PostgresServer, name: str, rows: int) -> Iterator[Sample]:
    make_database(server, name, rows)
    with snapshot_of(server, name, rows) as sample:
        yield sample
    server.execute("postgres", f"DROP DATABASE {name}")


@pytest.fixture(scope="session")
def small_sample(postgres_16: PostgresServer) -> Iterator[Sample]:
    """A sample of about 1 MB that no test changes."""
    yield from _shared(postgres_16, "streams_small", 2000)


@pytest.fixture(scope="session")
def large_sample(postgres_16: PostgresServer) -> Iterator[Sample]:
    """A sample of about 13 MB that no test changes."""
    yield from _shared(postgres_16, "streams_large", 30_000)


def manifest_for(
    parts: tuple[StoredPart, ...],
    globals_part: StoredPart,
    rows: dict[tuple[str, str], int],
    *,
    archive_format: str = "custom",
) -> Manifest:
    """A manifest that says what was stored; what decoding does not look at is made up."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    return Manifest(
        backup_id="20260101T000000Z-aaaaaa",
        environment="local",
        database="app",
        snapshot_time=now,
        started=now,
        finished=now,
        tools=ToolVersions(nightshift="0", pg_dump="0", python="3"),
        server=Server(
            version="0",
            version_number=0,
            system_identifier="1",
            database_oid=1,
            database_name="app",
            host="h",
            port=1,
            timeline=1,
            lsn="0/0",
            in_recovery=False,
        ),
        archive=Archive(format=archive_format, compression="zstd", compression_level=3, parts=parts),
        globals=globals_part,
        tables=tuple(
            Table(
                oid=number,
                schema_name=schema,
                name=name,
                owner="postgres",
                persistence="permanent",
                columns=(),
                mode="counts",
                rows=count,
                digest=None,
                digest_sql=None,
                size_bytes=0,
                counters={},
            )
            for number, ((schema, name), count) in enumerate(rows.items(), 1)
        ),
        large_objects=LargeObjects(count=2, content_bytes=0, digest=None, digest_sql=None),
        **NOTHING_ELSE,
    )


def with_parts(manifest: Manifest, *parts: StoredPart) -> Manifest:
    """The manifest with other parts."""
    return manifest.model_copy(update={"archive": manifest.archive.model_copy(update={"parts": parts})})


@dataclass
class StoredSample:
    """A backup of a sample database in a bucket."""

    sample: Sample
    store: ObjectStore
    manifest: Manifest
    listing: str

    def changed(self, **more: Any) -> "StoredSample":
        return replace(self, **more)


@pytest.fixture(scope="session")
def _stored_once(small_sample: Sample, s3_server: S3Server) -> tuple[Manifest, str, dict[str, bytes]]:
    bucket = "streams-stored-once"
    s3_server.client.create_bucket(Bucket=bucket)
    store = ObjectStore.open(environment_for(bucket, s3_server.endpoint))
    streamed = small_sample.dump(store, segment_bytes=128 * 1024)
    globals_part = small_sample.dump_globals(store).part
    objects = {item.key: store.get(item.key) for item in store.list("")}
    store.client.close()
    return manifest_for((streamed.part,), globals_part, small_sample.rows), streamed.listing, objects


@pytest.fixture
def stored_sample(
    small_sample: Sample, _stored_once: tuple[Manifest, str, dict[str, bytes]], store: ObjectStore
) -> StoredSample:
    """A custom-format backup of the small sample, in segments of 128 KiB, in the test's own bucket."""
    manifest, listing, objects = _stored_once
    for key, body in objects.items():
        store.put(key, body)
    return StoredSample(small_sample, store, manifest, listing)
