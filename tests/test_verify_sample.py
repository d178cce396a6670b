"""The whole sample database, restored on every major that can take it: the comparison finds nothing wrong, and every control sees its damage."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.manifest import Manifest
from core.restore_record import Restored
from deployments.local.sample_database import BACKUP_ROLE, load_sample
from tasks.negative_controls import database_controls
from tasks.verify_restored import verify_restored
from tests.fix_postgres import PostgresServer
from tests.fix_restored import drop_databases, dump_with_manifest, restored_record

PASSWORD = "sample-password-1"
ROWS = 60
ROTATIONS = 25
# Between majors only what every build has: the wheel's servers lack ICU, libxml and the contrib modules.
PAIRS = [(15, 15), (15, 16), (15, 18), (16, 18), (18, 18)]

pytestmark = pytest.mark.services


@dataclass
class Dumped:
    """A sample as the backup role dumped it. Its database was renamed, so that the dump can make one of its own name on the same server."""

    server: PostgresServer
    manifest: Manifest
    archive: Path
    name: str


@pytest.fixture(scope="module")
def dumped(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[int, bool], Dumped]]:
    """A factory: given a major and whether the sample is to be portable, return it dumped; made once a module."""
    made: dict[tuple[int, bool], Dumped] = {}

    def dump(major: int, portable: bool) -> Dumped:
        if (major, portable) not in made:
            server: PostgresServer = request.getfixturevalue(f"postgres_{major}")
            name = f"verified_{'portable' if portable else 'full'}"
            load_sample(server.conninfo(), rows=ROWS, backup_password=PASSWORD, database=name, portable=portable)
            archive = tmp_path_factory.mktemp(f"verified{major}") / f"{name}.pgdump"
            database = server.database(name, user=BACKUP_ROLE, password=PASSWORD)
            manifest = dump_with_manifest(server, database, archive)
            server.execute("postgres", f"ALTER DATABASE {name} RENAME TO {name}_source")
            made[major, portable] = Dumped(server, manifest, archive, name)
        return made[major, portable]

    yield dump
    for one in made.values():
        drop_databases(one.server, f"{one.name}_source")


@pytest.fixture
def restored(
    request: pytest.FixtureRequest, dumped: Callable[[int, bool], Dumped]
) -> Iterator[Callable[[int, int], tuple[PostgresServer, Dumped, Restored]]]:
    made: list[tuple[PostgresServer, str]] = []

    def restore(source: int, target: int) -> tuple[PostgresServer, Dumped, Restored]:
        dump = dumped(source, source != target)
        server: PostgresServer = request.getfixturevalue(f"postgres_{target}")
        if source != target:
            server.run("psql", "-X", "-q", "-f", str(dump.archive.with_suffix(".sql")), check=False)
        made.append((server, dump.name))
        server.run("pg_restore", "--create", "--exit-on-error", "--dbname=postgres", str(dump.archive))
        return server, dump, restored_record(server, dump.name)

    yield restore
    for server, name in made:
        drop_databases(server, name)


@pytest.mark.parametrize(("source", "target"), PAIRS)
def test_the_restored_sample_matches_and_every_damage_is_seen(
    restored: Callable[[int, int], tuple[PostgresServer, Dumped, Restored]], source: int, target: int
) -> None:
    server, dump, record = restored(source, target)
    database = server.database(dump.name)
    verification = verify_restored(database, dump.manifest, record, amcheck=True)
    bad = [finding for finding in verification.findings if finding.severity == "mismatch"]
    assert (bad, verification.differences) == ([], ())
    assert verification.matches
    assert verification.tables_compared > 30
    tried = set()
    for rotation in range(ROTATIONS):
        for control in database_controls(database, dump.manifest, rotation=rotation, restored=record):
            assert control.detected, control
            tried.add(control.on)
    assert len(tried) > 20
    assert verify_restored(database, dump.manifest, record).matches


def test_amcheck_finds_an_index_that_lacks_a_row(
    restored: Callable[[int, int], tuple[PostgresServer, Dumped, Restored]],
) -> None:
    server, dump, record = restored(15, 15)
    index_ready = "UPDATE pg_index SET indisready = {} WHERE indexrelid = 'odd.departments_pkey'::regclass"
    server.execute(
        dump.name,
        "SET session_replication_role = replica",
        index_ready.format("false"),
        "UPDATE odd.departments SET id = id + 100 WHERE id = 5",
        index_ready.format("true"),
    )
    verification = verify_restored(server.database(dump.name), dump.manifest, record, amcheck=True)
    damaged = [finding.text for finding in verification.findings if "departments_pkey is damaged" in finding.text]
    assert len(damaged) == 1
