"""The sample database on every installed major: what is in it, that it is the same each time, and that the backup role's dump of it restores."""

import subprocess
from pathlib import Path

import psycopg
import pytest

from deployments.local.sample_database import BACKUP_ROLE, OWNER_ROLE
from deployments.local.sample_database.scripts import read_scripts
from tests.fix_postgres import PostgresServer
from tests.fix_sample_servers import PASSWORD, ROWS, Servers, as_backup_role, difference, lines_of, run
from tests.sample_features import FEATURES

pytestmark = pytest.mark.xdist_group("sample_database")
# Source, target, database. Debian's 15 has contrib, ICU and libxml, which the wheel's servers lack: only a portable sample goes from it to them.
# Of the matrix one on the same major and one across majors belong to every test run, the others to `make test-services`.
RESTORES = [
    (18, 18, "platform"),
    (15, 16, "portable"),
    *(
        pytest.param(*restore, marks=pytest.mark.services)
        for restore in [(15, 15, "platform"), (15, 18, "portable"), (16, 16, "platform"), (16, 18, "platform")]
    ),
]


@pytest.fixture(params=[15, 16, 18], ids=lambda major: f"pg{major}")
def source(request: pytest.FixtureRequest, servers: Servers) -> PostgresServer:
    return servers.source(request.param)


def test_each_feature_of_the_files_has_a_query_that_finds_it_and_no_name_comes_twice() -> None:
    named = [feature for script in read_scripts() for feature in script.features]
    assert sorted(named) == sorted(FEATURES)


def test_every_feature_is_there_or_named_as_left_out(source: PostgresServer, servers: Servers) -> None:
    sample = servers.samples[source.major, "platform"]
    assert sorted([*sample.features, *(left.feature for left in sample.left_out)]) == sorted(FEATURES)
    with source.connect("platform") as connection:
        missing = [
            name for name in sample.features if connection.execute(FEATURES[name].encode()).fetchone() != (True,)
        ]
    assert missing == []


def test_only_what_the_build_or_the_major_lacks_is_left_out(servers: Servers) -> None:
    for major, database in ((16, "platform"), (18, "platform"), (18, "portable")):
        servers.source(major, database)
    left = {key: {item.feature: item.reason for item in sample.left_out} for key, sample in servers.samples.items()}
    assert left[16, "platform"]["citext"] == 'needs extension citext: extension "citext" is not available'
    assert left[16, "platform"]["virtual generated column"] == "needs PostgreSQL 18, this is 16"
    assert {"xml", "nondeterministic collation"} <= left[18, "platform"].keys()
    assert "extension with configuration tables, part of whose rows is dumped" not in left[18, "platform"]
    assert not left[18, "platform"].keys() & {f for s in read_scripts() if not s.bound_to_build for f in s.features}
    assert left[18, "portable"]["extension vector"].startswith("left out of a portable sample")


def test_what_was_made_is_said(source: PostgresServer, servers: Servers) -> None:
    sample = servers.samples[source.major, "platform"]
    assert (sample.database, sample.owner, sample.backup_role, sample.rows) == (
        "platform",
        OWNER_ROLE,
        BACKUP_ROLE,
        ROWS,
    )
    with source.connect("platform") as connection:
        owners = connection.execute(
            "SELECT rolsuper, rolname FROM pg_roles JOIN pg_database ON datdba = pg_roles.oid WHERE datname = 'platform'"
        ).fetchone()
    assert owners == (False, OWNER_ROLE)


@pytest.mark.parametrize(("source_major", "target_major", "database"), RESTORES)
def test_the_backup_roles_dump_restores_with_the_roles_of_the_globals(
    servers: Servers, tmp_path: Path, source_major: int, target_major: int, database: str
) -> None:
    source, target = servers.source(source_major, database), servers.target(target_major)
    archive = tmp_path / "archive"
    reader = as_backup_role(source, database)
    run(source, "pg_dump", "-Fc", "-Z0", "-f", str(archive), environment=reader)
    roles = run(source, "pg_dumpall", "--globals-only", "--no-role-passwords", "-l", database, environment=reader)

    restore_roles(target, roles)
    if source.major == target.major:
        # An expiry is told in the session's time zone, which the source's database sets.
        told = target.environment() | {"PGTZ": "Asia/Kathmandu"}
        there = run(target, "pg_dumpall", "--globals-only", "--no-role-passwords", environment=told)
        assert difference(lines_of(roles), lines_of(there)) == []
        assert "CREATE ROLE platform_reporting;" in there
    run(
        target,
        "pg_restore",
        "--exit-on-error",
        "--create",
        "-d",
        "postgres",
        str(archive),
        environment=target.environment(),
    )
    try:
        compare(source, target, database, archive)
    finally:
        target.execute("postgres", f"DROP DATABASE {database} WITH (FORCE)")


def restore_roles(target: PostgresServer, roles: str) -> None:
    """Run the globals; only that a role is there already, from another restore, may fail."""
    result = subprocess.run(
        [target.bin / "psql", "-X", "-q", "-f", "-"],
        env=target.environment(),
        input=roles,
        capture_output=True,
        text=True,
        check=False,
    )
    problems = [line for line in result.stderr.splitlines() if "ERROR" in line and "already exists" not in line]
    assert problems == []


def compare(source: PostgresServer, target: PostgresServer, database: str, archive: Path) -> None:
    """The same rows and the same objects as the target's programs see them; on one major the same statements, to the last grant and comment."""
    restored = archive.with_name("restored")
    run(target, "pg_dump", "-Fc", "-Z0", "-f", str(restored), environment=target.environment(database))
    if source.major != target.major:
        archive = archive.with_name("by newer pg_dump")
        run(target, "pg_dump", "-Fc", "-Z0", "-f", str(archive), environment=as_backup_role(source, database))
    assert difference(listing_of(target, archive), listing_of(target, restored)) == []
    what = ["--create"] if source.major == target.major else ["--data-only"]
    before, after = (
        lines_of(run(target, "pg_restore", *what, "-f", "-", str(path), environment=target.environment()))
        for path in (archive, restored)
    )
    assert difference(before, after) == []
    assert sum("@example.com\t" in line for line in after) >= ROWS


def listing_of(server: PostgresServer, archive: Path) -> list[str]:
    """What an archive holds, as type, schema, name and owner; without the numbers, which a restore changes."""
    listed = run(server, "pg_restore", "--list", str(archive), environment=server.environment()).splitlines()
    return sorted(" ".join(line.split()[3:]) for line in listed if line and not line.startswith(";"))


def test_the_backup_role_misses_nothing_but_the_options_of_user_mappings(source: PostgresServer) -> None:
    as_role = lines_of(run(source, "pg_dump", environment=as_backup_role(source, "platform")))
    as_superuser = lines_of(run(source, "pg_dump", environment=source.environment("platform")))
    missed = " ".join(difference(as_superuser, as_role))
    assert "\"user\" 'reporting'" in missed
    assert {line.strip("-+, ") for line in difference(as_superuser, as_role)} <= {
        "",
        ");",
        "\"user\" 'reporting'",
        "password 'not a real password'",
        "password_required 'true'",
        "\"user\" 'reader'",
        'CREATE USER MAPPING FOR platform_reporting SERVER "Data Warehouse" OPTIONS (',
        'CREATE USER MAPPING FOR platform_reporting SERVER "Data Warehouse";',
        "CREATE USER MAPPING FOR platform_owner SERVER billing_elsewhere OPTIONS (",
        "CREATE USER MAPPING FOR platform_owner SERVER billing_elsewhere;",
    }


def test_the_backup_role_reads_through_row_security_and_writes_nothing(source: PostgresServer) -> None:
    with source.connect("platform", user=BACKUP_ROLE, password=PASSWORD) as connection:
        counts = connection.execute(
            "SELECT (SELECT pg_catalog.count(*) FROM app.api_keys), (SELECT pg_catalog.count(*) FROM app.sealed), pg_catalog.length(lo_get(900001)) > 0"
        ).fetchone()
        assert counts == (50, 10, True)
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("DELETE FROM app.sealed")
        connection.execute("SET default_transaction_read_only = off")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("DELETE FROM app.sealed")
        attributes = connection.execute(
            "SELECT rolsuper, rolbypassrls, rolcreaterole FROM pg_catalog.pg_roles WHERE rolname OPERATOR(pg_catalog.=) current_user"
        ).fetchone()
    assert attributes == (False, True, False)


def test_a_query_that_pins_nothing_falls_into_the_traps(source: PostgresServer) -> None:
    with source.connect("platform", user=BACKUP_ROLE, password=PASSWORD) as connection:
        trapped = connection.execute(
            "SELECT count(*), lower('A'), (SELECT relname FROM pg_class) FROM public.users"
        ).fetchone()
        connection.execute("SET search_path = pg_catalog")
        safe = connection.execute("SELECT count(*), lower('A') FROM public.users").fetchone()
    assert trapped == (0, "A", "not a table")
    assert safe == (ROWS, "a")
