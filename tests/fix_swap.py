"""A live database and a copy beside it, on any server: each tells by its one row which it is, whatever it is called."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from psycopg import sql

from core.environment_database import Database
from core.manifest import Manifest
from core.restore_record import Restored
from core.swap_plan import SwapPlan, before_name, undone_name
from tasks.database_properties import read_properties
from tasks.swap_plans import plan_swap
from tests.fix_keeping import id_of, sample_manifest
from tests.fix_postgres import PostgresServer

COMMENT = 'the "live" one\'s own comment \\ with all sorts of quotes'


@dataclass
class Pair:
    """The two databases. `oids` are theirs by their first names; `login` is the superuser's, on the maintenance database."""

    server: PostgresServer
    live: str
    copied: str
    restore_id: str
    login: Database
    oids: dict[str, int] = field(default_factory=dict)

    @property
    def old(self) -> str:
        return before_name(self.live, self.restore_id)

    @property
    def undone(self) -> str:
        return undone_name(self.live, self.restore_id)

    def who(self, name: str) -> str:
        """Which database is called so: `old` or `new`."""
        with self.server.connect(name) as connection:
            row = connection.execute("SELECT who FROM public.identity").fetchone()
        assert row is not None
        return str(row[0])

    def names(self) -> dict[str, str]:
        """All databases of the pair that there are: what each is called, and which it is."""
        with self.server.connect() as connection:
            rows = connection.execute(
                "SELECT datname FROM pg_database WHERE datname LIKE %s || '%%' OR datname = %s",
                (self.live, self.copied),
            ).fetchall()
        return {name: self.who(name) for (name,) in rows}

    def catalogue(self, name: str) -> tuple[bool, str | None, list[str] | None]:
        """Whether it takes connections, its comment and its privileges."""
        with self.server.connect() as connection:
            row = connection.execute(
                "SELECT datallowconn, shobj_description(oid, 'pg_database'), datacl::text[] FROM pg_database WHERE datname = %s",
                (name,),
            ).fetchone()
        assert row is not None, f"there is no database {name}"
        return row

    def reset(self) -> None:
        """Give both their first names again; nothing else is left behind by a swap."""
        with self.server.connect() as connection:
            names = dict(
                connection.execute(
                    "SELECT oid, datname FROM pg_database WHERE oid = ANY (%s)", (list(self.oids.values()),)
                ).fetchall()
            )
            moved = {first: names[oid] for first, oid in self.oids.items() if names[oid] != first}
            # By way of a third name, since each may have the other's.
            for before, after in (
                *((name, f"{first}_moving") for first, name in moved.items()),
                *((f"{first}_moving", first) for first in moved),
            ):
                connection.execute(
                    sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(before), sql.Identifier(after))
                )

    @contextmanager
    def owned_by(self, role: str) -> Iterator[None]:
        """Both databases belong to a role, and to the superuser again afterwards, whatever they are called then."""
        for owner in (role, "postgres"):
            with self.server.connect() as connection:
                for (name,) in connection.execute(
                    "SELECT datname FROM pg_database WHERE oid = ANY (%s)", (list(self.oids.values()),)
                ).fetchall():
                    connection.execute(
                        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner))
                    )
            if owner == role:
                yield

    def manifest(self) -> Manifest:
        with self.server.connect(self.live) as connection:
            properties = read_properties(connection)
        sample = sample_manifest(id_of(1))
        server = sample.server.model_copy(update={"database_name": self.live})
        return sample.model_copy(update={"properties": properties, "server": server})

    def restored(self, manifest: Manifest, **changes: Any) -> Restored:
        with self.server.connect() as connection:
            row = connection.execute(
                "SELECT (SELECT oid FROM pg_database WHERE datname = %s), system_identifier::text FROM pg_control_system()",
                (self.copied,),
            ).fetchone()
        assert row is not None
        facts: dict[str, Any] = {
            "backup_id": manifest.backup_id,
            "server": "primary",
            "name": self.copied,
            "oid": row[0] or 1,
            "system_identifier": row[1],
            "server_version": "16.4",
            "server_version_number": 160004,
            "pg_restore": "16.4",
            "phases": (),
        }
        return Restored(**{**facts, **changes})

    def plan(self, login: Database | None = None, **changes: Any) -> SwapPlan:
        manifest = self.manifest()
        return plan_swap(
            login or self.login,
            self.live,
            self.copied,
            self.restore_id,
            manifest,
            restored=self.restored(manifest, **changes),
        )


def make_pair(server: PostgresServer) -> Pair:
    """Given a server, make the two databases, the superuser's. The caller drops them with `drop_pair`."""
    number = secrets.token_hex(4)
    pair = Pair(server, f"live_{number}", f"copy_{number}", number, server.database("postgres"))
    for name, who in ((pair.live, "old"), (pair.copied, "new")):
        server.execute(
            "postgres",
            f"CREATE DATABASE {name} TEMPLATE template0",
            f"REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC",
            f"ALTER DATABASE {name} SET work_mem = '8MB'",
        )
        server.execute(name, "CREATE TABLE public.identity (who text)", f"INSERT INTO public.identity VALUES ('{who}')")  # noqa: S608
    with server.connect() as connection:
        connection.execute(
            sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(pair.live), sql.Literal(COMMENT))
        )
        rows = connection.execute(
            "SELECT datname, oid FROM pg_database WHERE datname IN (%s, %s)", (pair.live, pair.copied)
        )
        pair.oids.update(rows.fetchall())
    return pair


def drop_pair(pair: Pair) -> None:
    """Drop every database of the pair, whatever it is called by now."""
    with pair.server.connect() as connection:
        for name in (pair.live, pair.copied, pair.old, pair.undone):
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def new_pair() -> Iterator[Callable[[PostgresServer], Pair]]:
    """A factory: given a server, return a pair of databases of the test's own, dropped after it."""
    made: list[Pair] = []

    def create(server: PostgresServer) -> Pair:
        pair = make_pair(server)
        made.append(pair)
        return pair

    yield create
    for pair in made:
        drop_pair(pair)


@pytest.fixture(scope="session")
def pair_of_15(postgres_15: PostgresServer) -> Iterator[Pair]:
    pair = make_pair(postgres_15)
    yield pair
    drop_pair(pair)


@pytest.fixture(scope="session")
def pair_of_18(postgres_18: PostgresServer) -> Iterator[Pair]:
    pair = make_pair(postgres_18)
    yield pair
    drop_pair(pair)


@pytest.fixture
def pair_15(pair_of_15: Pair) -> Iterator[Pair]:
    """A pair on PostgreSQL 15. Databases are dear to make, so all tests share it, and each finds the names as they were at first."""
    yield pair_of_15
    pair_of_15.reset()


@pytest.fixture(params=[15, 18], ids=lambda major: f"pg{major}")
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    """As pair_15, on the oldest and on the newest server that is here."""
    found: Pair = request.getfixturevalue(f"pair_of_{request.param}")
    yield found
    found.reset()


def refused(server: PostgresServer, name: str) -> bool:
    """Whether a database takes no connections, not even a superuser's."""
    try:
        server.connect(name).close()
    except psycopg.OperationalError as error:
        assert "not currently accepting connections" in str(error)
        return True
    return False
