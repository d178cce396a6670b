"""A backup of a small database with one of each thing that a restore has to bring back, and orders to restore it."""

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql

from core.environment import Environment
from core.manifest import Manifest
from tasks.object_store import ObjectStore
from tasks.progress import Progress
from tasks.restored_copy import RestoreOrder
from tasks.take_backup import take_backup
from tests.fix_object_store import S3Server, environment_for
from tests.fix_postgres import PostgresServer

OWNER, READER, GROUP = "restore_owner", 'restore "reader', "restore_group"
ROLES = (
    f"CREATE ROLE {OWNER} LOGIN CREATEDB CONNECTION LIMIT 7",
    f'CREATE ROLE "{READER.replace(chr(34), chr(34) * 2)}" NOINHERIT',
    f"CREATE ROLE {GROUP}",
    f"GRANT {GROUP} TO {OWNER} WITH ADMIN OPTION",
    f"GRANT pg_monitor TO {OWNER}",
    f"ALTER ROLE {OWNER} SET work_mem TO '5MB'",
    f"COMMENT ON ROLE {OWNER} IS E'it''s \\\\ the owner'",
)
TABLES = (
    "CREATE TABLE customer (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL)",
    "CREATE TABLE purchase (id serial PRIMARY KEY, customer bigint NOT NULL REFERENCES customer, total numeric(9,2))",
    "INSERT INTO customer (name) SELECT 'customer ' || n FROM generate_series(1, 200) AS n",
    "INSERT INTO purchase (customer, total) SELECT n, n * 1.5 FROM generate_series(1, 200) AS n",
    "CREATE INDEX purchase_total ON purchase (total)",
    "CREATE SCHEMA audit",
    "CREATE TABLE audit.log (at int, what text, PRIMARY KEY (at)) PARTITION BY RANGE (at)",
    "CREATE TABLE audit.log_low PARTITION OF audit.log FOR VALUES FROM (0) TO (50)",
    "CREATE TABLE audit.log_high PARTITION OF audit.log FOR VALUES FROM (50) TO (100)",
    "INSERT INTO audit.log SELECT n, 'event ' || n FROM generate_series(0, 99) AS n",
    "CREATE SEQUENCE audit.counter START 41",
    "SELECT nextval('audit.counter')",
    "CREATE MATERIALIZED VIEW spent AS SELECT customer, sum(total) AS total FROM purchase GROUP BY customer",
    "CREATE VIEW by_customer AS SELECT c.id, c.name, count(p.id) AS purchases FROM customer c LEFT JOIN purchase p ON p.customer = c.id GROUP BY c.id",
    "SELECT lo_from_bytea(4711, 'large')",
    'CREATE SCHEMA "my; schema"',
    """CREATE TABLE "my; schema"."a\nb 'c' ""d" (id serial, "x; y" text DEFAULT E'\\\\')""",
    """INSERT INTO "my; schema"."a\nb 'c' ""d" SELECT n, E'a\\tb' FROM generate_series(1, 9) AS n""",
    """CREATE INDEX "; DROP" ON "my; schema"."a\nb 'c' ""d" ("x; y")""",
)


@dataclass
class Taken:
    """A backup in a bucket of its own, and the database that it is of."""

    server: PostgresServer
    database: str
    environment: Environment
    store: ObjectStore
    manifest: Manifest

    def copied(self, store: ObjectStore) -> "Taken":
        """The same in another bucket, to be damaged or cut off there."""
        for item in self.store.list(""):
            store.put(item.key, self.store.get(item.key))
        return Taken(self.server, self.database, self.environment, store, self.manifest)

    def order(self, server: PostgresServer, **more: Any) -> RestoreOrder:
        """An order to restore it to a server, as the superuser, without a reserve of disk."""
        arguments: dict[str, Any] = {
            "store": self.store,
            "environment": self.environment,
            "manifest": self.manifest,
            "login": server.database("postgres"),
            "server_name": f"pg{server.major}",
            "restore_id": secrets.token_hex(4),
            "purpose": "restore",
            "spool_reserve_bytes": 0,
        }
        return RestoreOrder(**(arguments | more))


def take(server: PostgresServer, database: str, s3: S3Server, bucket: str, **more: Any) -> Taken:
    """Back a database up into a new bucket."""
    s3.client.create_bucket(Bucket=bucket)
    environment = environment_for(bucket, s3.endpoint, databases={"app": server.database(database, **more)})
    store = ObjectStore.open(environment)
    return Taken(server, database, environment, store, take_backup(environment, "app", store, Progress()))


def make_source(server: PostgresServer, name: str) -> None:
    """Make the roles and the database that is backed up."""
    quoted_reader = sql.Identifier(READER).as_string(None)
    server.execute("postgres", *ROLES, f"CREATE DATABASE {name} TEMPLATE template0 OWNER {OWNER}")
    server.execute(name, *(f"SET ROLE {OWNER}; {statement}" for statement in TABLES))
    server.execute(
        "postgres",
        f'ALTER DATABASE {name} SET search_path TO "$user", public, audit',
        f"ALTER ROLE {OWNER} IN DATABASE {name} SET idle_session_timeout TO '1h'",
        f"ALTER ROLE {OWNER} IN DATABASE {name} SET app.tenant TO E'it''s \\\\ 1'",
        f"REVOKE CONNECT ON DATABASE {name} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {name} TO {quoted_reader} WITH GRANT OPTION",
        f"COMMENT ON DATABASE {name} IS 'the shop''s'",
        f"ALTER DATABASE {name} CONNECTION LIMIT 40",
    )


@pytest.fixture(scope="session")
def taken(postgres_16: PostgresServer, s3_server: S3Server) -> Iterator[Taken]:
    """The backup, taken once, in the custom format."""
    make_source(postgres_16, "restore_source")
    backup = take(postgres_16, "restore_source", s3_server, "restore-taken-once")
    yield backup
    backup.store.client.close()


@pytest.fixture(scope="session")
def taken_as_directory(taken: Taken, s3_server: S3Server) -> Iterator[Taken]:
    """The same database, backed up in the directory format."""
    backup = take(taken.server, taken.database, s3_server, "restore-taken-as-directory", jobs=2)
    yield backup
    backup.store.client.close()


def databases(server: PostgresServer) -> set[str]:
    """The names of a server's databases that are not finished copies."""
    with server.connect() as session:
        rows = session.execute("SELECT datname FROM pg_database WHERE datname LIKE 'nightshift%'").fetchall()
    return {name for (name,) in rows}


def roles_of(server: PostgresServer) -> set[str]:
    """Those of the backup's roles that a server has."""
    with server.connect() as session:
        rows = session.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", ([OWNER, READER, GROUP],))
        return {name for (name,) in rows.fetchall()}


@pytest.fixture
def restored_names(request: pytest.FixtureRequest) -> Iterator[Callable[[PostgresServer, str], str]]:
    """A factory: given a server, a name for a restored database of the test's own. Dropped after the test, and unfinished copies too."""
    made: list[tuple[PostgresServer, str]] = []

    def name_for(server: PostgresServer, name: str = "") -> str:
        made.append((server, name or f"restored_{secrets.token_hex(4)}"))
        return made[-1][1]

    yield name_for
    for server, name in made:
        with server.connect() as session:
            for one in {name, *databases(server)}:
                session.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(one)))


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A folder for spools."""
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder
