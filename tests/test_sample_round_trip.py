"""The whole sample database: snapshot, digests, dump, coverage; restored on every major that can take it, and compared."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.archive_listing import parse_listing
from core.coverage import compare_coverage
from core.digest_comparison import differences
from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database
from core.inventory import Inventory
from core.manifest import LargeObjects, Table
from deployments.local.sample_database import BACKUP_ROLE, load_sample
from tasks.digests import DigestResult, compute_digests, digest_large_objects, digest_table
from tasks.postgres import connect, libpq_environment, pin_session
from tasks.schema_fingerprint import schema_fingerprint, schema_lines
from tasks.snapshot import hold_snapshot
from tests.fix_postgres import PostgresServer

PASSWORD = "sample-password-1"
ROWS = 60
# Restores go into the same and newer majors; an older one is not promised by PostgreSQL.
# Of the matrix one on the same major and one across majors belong to every test run, the others to `make test-services`.
PAIRS = [
    (15, 15),
    (16, 18),
    *(pytest.param(*pair, marks=pytest.mark.services) for pair in [(15, 16), (15, 18), (16, 16), (18, 18)]),
]


@dataclass
class Dumped:
    """A sample as it was dumped by the backup role."""

    server: PostgresServer
    database: Database
    inventory: Inventory
    digests: DigestResult
    listing: str
    globals_sql: str
    archive: Path
    features: tuple[str, ...]

    def table(self, oid: int) -> Table:
        counted = self.digests.tables[oid]
        return next(draft for draft in self.inventory.tables if draft.oid == oid).counted(counted.rows, counted.digest)


def _dump(server: PostgresServer, folder: Path, name: str, *, portable: bool) -> Dumped:
    info = load_sample(server.conninfo(), rows=ROWS, backup_password=PASSWORD, database=name, portable=portable)
    database = server.database(name, user=BACKUP_ROLE, password=PASSWORD)
    archive = folder / f"{name}.pgdump"
    with hold_snapshot(database, backup_key=name) as held:
        digests = compute_digests(database, held, stop=threading.Event(), on_table=lambda _table: None)
        environment = libpq_environment(database)
        result = _run(server, environment, "pg_dump", "-Fc", "-Z0", f"--snapshot={held.name}", f"--file={archive}")
        assert result == ""
    return Dumped(
        server,
        database,
        held.inventory,
        digests,
        _run(server, environment, "pg_restore", "--list", str(archive)),
        _run(server, environment, "pg_dumpall", "--globals-only", "--no-role-passwords"),
        archive,
        info.features,
    )


def _run(server: PostgresServer, environment: dict[str, str], *command: str) -> str:
    import subprocess

    done = subprocess.run(
        [server.bin / command[0], *command[1:]], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dumps(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int, bool], Dumped]]:
    """A factory: given a major and whether the sample is to be portable, return it dumped; made once a module."""
    made: dict[tuple[int, bool], Dumped] = {}
    databases: list[tuple[PostgresServer, str]] = []

    def dumped(major: int, portable: bool) -> Dumped:
        if (major, portable) not in made:
            server: PostgresServer = request.getfixturevalue(f"postgres_{major}")
            name = f"sample_{'portable' if portable else 'full'}"
            databases.append((server, name))
            made[major, portable] = _dump(server, tmp_path_factory.mktemp(f"pg{major}"), name, portable=portable)
        return made[major, portable]

    yield dumped
    for server, name in databases:
        server.execute("postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


@pytest.mark.parametrize("major", [15, 16, 18])
def test_the_dump_of_the_whole_sample_lists_everything(dumps: Callable[[int, bool], Dumped], major: int) -> None:
    dump = dumps(major, False)
    coverage = compare_coverage(
        dump.inventory.expected, parse_listing(dump.listing), dump.inventory.roles, dump.globals_sql
    )
    assert coverage.missing == ()
    assert coverage.expected > 200


@pytest.mark.parametrize("major", [15, 16, 18])
def test_an_object_removed_from_the_listing_is_named(dumps: Callable[[int, bool], Dumped], major: int) -> None:
    dump = dumps(major, False)
    entries = parse_listing(dump.listing)
    # What is not looked for: a partition's place, a default or a view's rule apart from its table, comments and privileges of rare kinds.
    # From 17 on an entry of large objects tells the first and the last, and others may lie between.
    told_otherwise = {"TABLE ATTACH", "INDEX ATTACH", "DEFAULT", "ACL", "COMMENT", "SECURITY LABEL", "SHELL TYPE"}
    told_otherwise |= {"BLOB METADATA", "BLOBS"} if major >= 17 else set()
    removable = [entry for entry in entries if entry.kind not in told_otherwise and " _RETURN " not in entry.words]
    assert len(removable) > 200
    # One of each kind, and one in seven of all.
    for entry in {*{entry.kind: entry for entry in removable}.values(), *removable[::7]}:
        rest = tuple(other for other in entries if other is not entry)
        coverage = compare_coverage(dump.inventory.expected, rest, dump.inventory.roles, dump.globals_sql)
        assert coverage.missing != (), f"nobody misses {entry}"


@pytest.mark.parametrize("major", [15, 18])
def test_a_role_that_is_not_in_the_globals_is_named(dumps: Callable[[int, bool], Dumped], major: int) -> None:
    dump = dumps(major, False)
    globals_sql = dump.globals_sql.replace('CREATE ROLE "Platform Ops";', "").replace("CREATE ROLE platform_owner;", "")
    coverage = compare_coverage(dump.inventory.expected, parse_listing(dump.listing), dump.inventory.roles, globals_sql)
    assert coverage.missing == ("role Platform Ops", "role platform_owner")


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_a_restore_has_the_same_digests(
    dumps: Callable[[int, bool], Dumped],
    request: pytest.FixtureRequest,
    fresh_database: Callable[..., str],
    source: int,
    target: int,
) -> None:
    dump = dumps(source, source != target)
    server: PostgresServer = request.getfixturevalue(f"postgres_{target}")
    if source != target:
        server.run("psql", "-X", "-q", "-f", str(_roles_only(dump)), check=False)
    # Restored under the name that ALTER DATABASE … SET in the dump means nothing to; its settings are not in the archive.
    name = fresh_database(server)
    server.run("pg_restore", "--exit-on-error", f"--dbname={name}", str(dump.archive))
    with connect(server.database(name), application_name="test") as connection:
        pin_session(connection, PINNED_SETTINGS)
        tables = [dump.table(oid) for oid in dump.digests.tables]
        assert differences(tables, {table.oid: digest_table(connection, table) for table in tables}) == ()
        with connection.transaction():
            restored: LargeObjects = digest_large_objects(connection, digest=True)
        assert restored == dump.digests.large_objects
        if source == target:
            with connect(dump.database, application_name="test") as original:
                pin_session(original, PINNED_SETTINGS)
                before, after = schema_lines(original), schema_lines(connection)
            assert set(before) ^ set(after) == set()
            assert schema_fingerprint(connection) == dump.inventory.schema_fingerprint


def _roles_only(dump: Dumped) -> Path:
    """The roles of the source as a script; those that are there already make errors that psql passes over."""
    path = dump.archive.with_suffix(".roles.sql")
    path.write_text(dump.globals_sql)
    return path


@pytest.mark.parametrize("major", [15, 16, 18])
def test_the_sample_is_counted_in_full(dumps: Callable[[int, bool], Dumped], major: int) -> None:
    dump = dumps(major, False)
    assert len(dump.digests.tables) == len(dump.inventory.tables) > 30
    assert all(counted.rows is not None and counted.digest for counted in dump.digests.tables.values())
    assert sum(counted.rows or 0 for counted in dump.digests.tables.values()) > ROWS
    assert dump.digests.large_objects.count > 0
    assert dump.digests.large_objects.content_bytes > 0
