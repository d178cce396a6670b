"""Loading the sample database: the same each time, as large as asked for, and nothing touched that is somebody else's."""

from collections import Counter

import psycopg
import pytest
from psycopg import sql

from core.errors import ConfigurationError, PermanentError, TemporaryError
from deployments.local.sample_database import BACKUP_ROLE, load_sample, loader
from deployments.local.sample_database.scripts import Script, read_scripts
from tests.fix_postgres import PostgresServer
from tests.fix_sample_servers import PASSWORD, ROWS, Servers, difference, lines_of, run
from tests.ports import free_port

pytestmark = pytest.mark.xdist_group("sample_database")


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


@pytest.mark.services  # among them Debian's
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
