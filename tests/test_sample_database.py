"""The sample database on every installed major: what is in it, that it is the same each time, and that the backup role's dump of it restores."""

import difflib
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from core.errors import ConfigurationError, PermanentError, TemporaryError
from deployments.local.sample_database import BACKUP_ROLE, OWNER_ROLE, SampleInfo, load_sample, loader
from deployments.local.sample_database.scripts import FOLDER, Script, read_scripts
from tests.fix_postgres import MAJORS, PostgresServer, end_server, free_port, make_server
from tests.sample_features import FEATURES

pytestmark = pytest.mark.xdist_group("sample_database")

ROWS = 300
PASSWORD = "backup-role-password"
# Source, target, database. Debian's 15 has contrib, ICU and libxml, which the wheel's servers lack: only a portable sample goes from it to them.
RESTORES = [
    (15, 15, "platform"),
    (15, 16, "portable"),
    (15, 18, "portable"),
    (16, 16, "platform"),
    (16, 18, "platform"),
    (18, 18, "platform"),
]


@dataclass
class Servers:
    """Servers of this module alone, made when first asked for: sources with both samples, and targets that know no role yet."""

    extensions: Path
    sources: dict[int, PostgresServer] = field(default_factory=dict)
    targets: dict[int, PostgresServer] = field(default_factory=dict)
    samples: dict[tuple[int, str], SampleInfo] = field(default_factory=dict)

    def source(self, major: int, database: str = "platform") -> PostgresServer:
        """A server with the sample `platform`, or `portable`, in it."""
        if major not in self.sources:
            self.sources[major] = self._make(major)
        self.sample(major, database)
        return self.sources[major]

    def sample(self, major: int, database: str) -> SampleInfo:
        if (major, database) not in self.samples:
            self.samples[major, database] = load_sample(
                self.sources[major].conninfo(),
                rows=ROWS,
                backup_password=PASSWORD,
                database=database,
                portable=database == "portable",
            )
        return self.samples[major, database]

    def target(self, major: int) -> PostgresServer:
        if major not in self.targets:
            self.targets[major] = self._make(major)
        return self.targets[major]

    def _make(self, major: int) -> PostgresServer:
        if major not in MAJORS:
            pytest.skip(f"PostgreSQL {major} is not installed")
        settings = {"extension_control_path": f"$system:{self.extensions}"} if major >= 18 else {}
        return make_server(major, **settings)


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    # Not pytest's folder, which it closes to the other user whom the servers run as when the tests run as root.
    extensions = Path(tempfile.mkdtemp(prefix="nightshift-extensions-"))
    shutil.copytree(FOLDER / "extension_path", extensions, dirs_exist_ok=True)
    for path in (extensions, *extensions.rglob("*")):
        path.chmod(0o755)
    made = Servers(extensions)
    yield made
    running = [*made.sources.values(), *made.targets.values()]
    # All at once and without the checkpoint of an orderly end: nobody needs the data again.
    for server in running:
        if server.process is not None:
            server.process.send_signal(signal.SIGQUIT)
    for server in running:
        end_server(server)
    shutil.rmtree(extensions)


@pytest.fixture(params=[15, 16, 18], ids=lambda major: f"pg{major}")
def source(request: pytest.FixtureRequest, servers: Servers) -> PostgresServer:
    return servers.source(request.param)


def as_backup_role(server: PostgresServer, database: str) -> dict[str, str]:
    # pg_dumpall prints an expiry date in the session's DateStyle, and this database's is SQL, DMY.
    return server.environment(database) | {"PGUSER": BACKUP_ROLE, "PGPASSWORD": PASSWORD, "PGDATESTYLE": "ISO"}


def run(server: PostgresServer, program: str, *arguments: str, environment: dict[str, str], given: str = "") -> str:
    result = subprocess.run(
        [server.bin / program, *arguments], env=environment, input=given, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def lines_of(dump: str) -> list[str]:
    """A plain dump's lines, sorted, without those that differ between any two dumps."""
    return sorted(
        line for line in dump.splitlines() if not line.startswith(("\\restrict", "\\unrestrict", "-- Dumped"))
    )


def difference(one: list[str], other: list[str]) -> list[str]:
    return [line for line in difflib.unified_diff(one, other, n=0, lineterm="") if line[:2] not in ("@@", "--", "++")]


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
        ["psql", "-X", "-q", "-f", "-"],
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


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not(servers: Servers) -> None:
    server = servers.source(18)
    for name, seed in (("again", 42), ("otherwise", 43)):
        load_sample(server.conninfo(), rows=ROWS, backup_password=PASSWORD, database=name, seed=seed)
    dumps = {
        name: lines_of(run(server, "pg_dump", "--data-only", environment=server.environment(name)))
        for name in ("platform", "again", "otherwise")
    }
    # Rows of an enum's hash partitions are sorted away; knex_migrations and all else are equal.
    assert difference(dumps["platform"], dumps["again"]) == []
    assert len(difference(dumps["platform"], dumps["otherwise"])) > ROWS


def test_every_major_makes_the_same_data(servers: Servers) -> None:
    clients, dumps = servers.source(18), {}
    for major in (15, 16, 18):
        environment = servers.source(major, "portable").environment("portable")
        dumps[major] = Counter(lines_of(run(clients, "pg_dump", "--data-only", environment=environment)))
    # 18 has tables of its own besides.
    ignored = Counter(line for line in dumps[16] if line.startswith("SET "))
    assert dumps[15] == dumps[16]
    assert dumps[16] - dumps[18] - ignored == Counter()


def test_rows_scale_the_data(servers: Servers) -> None:
    server = servers.source(16)
    sizes = {}
    for rows in (1, 1500):
        load_sample(server.conninfo(), rows=rows, backup_password=PASSWORD, database=f"rows_{rows}")
        with server.connect(f"rows_{rows}") as connection:
            sizes[rows] = connection.execute(
                "SELECT (SELECT count(*) FROM public.users), (SELECT count(*) FROM app.events), (SELECT count(*) FROM pg_largeobject_metadata)"
            ).fetchone()
    assert sizes == {1: (1, 3, 4), 1500: (1500, 4500, 7)}


def test_a_second_load_refuses_and_changes_nothing(servers: Servers) -> None:
    server = servers.source(16)
    before = run(server, "pg_dumpall", "--globals-only", environment=server.environment("platform"))
    with pytest.raises(
        PermanentError, match=r"platform at 127\.0\.0\.1:\d+\): a database of this name is there already"
    ):
        load_sample(server.conninfo(), rows=10, backup_password="another password", database="platform")
    after = run(server, "pg_dumpall", "--globals-only", environment=server.environment("platform"))
    assert difference(lines_of(before), lines_of(after)) == []
    with server.connect("platform", user=BACKUP_ROLE, password=PASSWORD) as connection:
        assert connection.execute("SELECT pg_catalog.count(*) FROM public.users").fetchone() == (ROWS,)


@pytest.mark.parametrize(
    ("statement", "undo", "found"),
    [
        (
            "COMMENT ON ROLE platform_api IS 'of somebody else'",
            "COMMENT ON ROLE platform_api IS 'nightshift sample: again'",
            "platform_api there already",
        ),
        (
            "ALTER ROLE platform_api RENAME TO away",
            "ALTER ROLE away RENAME TO platform_api",
            "only a part of them is there, without platform_api",
        ),
    ],
    ids=["a role of somebody else", "a part of the roles"],
)
def test_roles_that_are_not_the_samples_are_left_alone(servers: Servers, statement: str, undo: str, found: str) -> None:
    server = servers.source(16)
    server.execute("postgres", statement)
    try:
        with pytest.raises(PermanentError, match=found):
            load_sample(server.conninfo(), rows=10, backup_password="another password", database="refused")
        server.connect("platform", user=BACKUP_ROLE, password=PASSWORD).close()
    finally:
        server.execute("postgres", undo)
    assert "refused" not in databases(server)


def databases(server: PostgresServer) -> set[str]:
    with server.connect() as connection:
        return {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}


def test_a_load_that_fails_names_the_file_and_leaves_no_database(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = servers.source(16)
    broken = Script("90_broken", b"SELECT 1;\nSELECT nothing FROM nowhere", (), "", 0)
    monkeypatch.setattr(loader, "read_scripts", lambda: (*read_scripts()[:2], broken))
    with pytest.raises(PermanentError, match=r'90_broken\.sql, line 2\): 42P01: relation "nowhere" does not exist'):
        load_sample(server.conninfo(), rows=10, backup_password=PASSWORD, database="halfway")
    assert "halfway" not in databases(server)


def test_a_file_that_needs_nothing_special_may_not_be_left_out(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    unsupported = Script("90_unsupported", b"CREATE EXTENSION not_there", ("x",), "version 16", 16)
    monkeypatch.setattr(loader, "read_scripts", lambda: (unsupported,))
    with pytest.raises(PermanentError, match=r"90_unsupported\.sql.*not available"):
        load_sample(servers.source(16).conninfo(), rows=10, backup_password=PASSWORD, database="halfway")


def test_the_password_stands_neither_in_the_servers_log_nor_in_an_error(servers: Servers) -> None:
    server, secret = servers.source(16), "s3cret-of-the-log"
    told = psycopg.conninfo.make_conninfo(server.conninfo(), options="-c log_statement=all")
    load_sample(told, rows=1, backup_password=secret, database="logged")
    load_sample(server.conninfo(), rows=1, backup_password=PASSWORD, database="logged_again")
    assert "SCRAM-SHA-256" in server.log
    assert secret not in server.log
    nobody = psycopg.conninfo.make_conninfo(server.conninfo(password="wrong-password"), port=free_port())
    with pytest.raises(TemporaryError, match="Is the server running") as raised:
        load_sample(nobody, rows=1, backup_password=secret)
    assert secret not in str(raised.value)
    assert "wrong-password" not in str(raised.value)


@pytest.mark.parametrize(
    ("arguments", "found"),
    [({"rows": 0}, "rows is 0"), ({"seed": 2**31}, "seed is 2147483648"), ({"backup_password": ""}, "is empty")],
    ids=["no rows", "a seed too large", "no password"],
)
def test_arguments_are_checked_before_anything_is_touched(arguments: dict[str, int | str], found: str) -> None:
    given = {"rows": 10, "seed": 1, "backup_password": PASSWORD} | arguments
    with pytest.raises(ConfigurationError, match=found):
        load_sample("host=127.0.0.1 port=1", **given)  # type: ignore[arg-type]


def test_who_is_not_a_superuser_is_told_so(servers: Servers) -> None:
    server = servers.source(16)
    with pytest.raises(ConfigurationError, match="nightshift_backup is not a superuser"):
        load_sample(
            server.conninfo(user=BACKUP_ROLE, password=PASSWORD), rows=10, backup_password=PASSWORD, database="refused"
        )


def test_a_name_that_needs_quoting_will_do(servers: Servers) -> None:
    server, name = servers.source(18), 'Plat"form %s é'
    load_sample(server.conninfo(), rows=1, backup_password=PASSWORD, database=name)
    with server.connect(name, user=BACKUP_ROLE, password=PASSWORD) as connection:
        assert connection.execute(sql.SQL("SELECT pg_catalog.count(*) FROM public.users")).fetchone() == (1,)
