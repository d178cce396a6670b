"""What is read of a database's objects: the same of a database and of its restore, whoever reads it, and another when a single privilege is."""

import contextlib
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from core.digest_sql import PINNED_SETTINGS
from core.environment_database import Database
from core.manifest import ObjectFacts
from core.object_facts import GroupKey, listed
from core.restored_comparison import Verification
from core.restored_objects import compare_objects
from tasks.expected_objects import read_expected
from tasks.object_facts import read_object_facts
from tasks.postgres import connect, pin_session
from tasks.verify_restored import verify_restored
from tests.fix_postgres import PostgresServer
from tests.fix_restored import Copy
from tests.test_restored_comparison import RESTORED, a_manifest

LARGE = GroupKey("owner and privileges", "large object", "")


def read(
    database: Database, *, large_objects: int = 0, exclude: tuple[str, ...] = (), dumped_from: int = 0
) -> ObjectFacts:
    with closing(connect(database, application_name="test")) as connection:
        pin_session(connection, PINNED_SETTINGS)
        entries = read_expected(connection, exclude, ())
        return read_object_facts(connection, exclude, entries, large_objects=large_objects, dumped_from=dumped_from)


def verify(copy: Copy, **more: object) -> Verification:
    manifest = copy.manifest.model_copy(update=more)
    return verify_restored(copy.database, manifest, copy.restored)


def texts(verification: Verification, severity: str = "mismatch") -> list[str]:
    return [finding.text for finding in verification.findings if finding.severity == severity]


CHANGES = {
    "GRANT SELECT ON total TO pg_monitor": "materialized view public.total lacks “the usual privileges”",
    "REVOKE EXECUTE ON FUNCTION greet(text) FROM PUBLIC": "function public.greet(pg_catalog.text) lacks “the usual privileges”",
    "GRANT USAGE ON TYPE plan TO pg_monitor": "type public.plan lacks “the usual privileges”",
    "GRANT SELECT (name) ON account TO pg_monitor": "table public.account has “column name: SELECT to pg_monitor by postgres”",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO pg_monitor": "default acl for role postgres on tables is in the copy",
    "REVOKE UPDATE ON LARGE OBJECT 770001 FROM pg_monitor": "large object 770001 lacks “ALL to postgres by postgres; UPDATE to pg_monitor",
    "GRANT CREATE ON SCHEMA public TO PUBLIC": "schema public lacks “USAGE to PUBLIC by pg_database_owner”",
    "ALTER TABLE secret DISABLE ROW LEVEL SECURITY": "table public.secret lacks “row security enabled”",
    "ALTER TABLE kept ENABLE RULE no_delete": "table public.kept lacks “rule no_delete: event 4, always, instead”",
    "ALTER PUBLICATION everything SET (publish = 'insert')": "publication everything lacks “with puballtables, pubdelete",
    "COMMENT ON TABLE old IS 'new'": "table public.old has “comment ",
}


def test_what_is_changed_in_the_copy_is_named(restored_copy: Copy) -> None:
    restored_copy.run(*CHANGES)
    found = texts(verify(restored_copy))
    assert [text for text in CHANGES.values() if not any(one.startswith(text) for one in found)] == [], found


@pytest.mark.parametrize("statement", [*CHANGES, "ALTER TABLE payment DISABLE TRIGGER ALL"])
def test_the_same_on_another_major_is_a_mismatch_too(restored_copy: Copy, statement: str) -> None:
    # The dump of another major: neither the definitions' texts nor the number of objects tell anything.
    server = restored_copy.manifest.server.model_copy(update={"version_number": 150004})
    older = {"server": server, "schema_fingerprint": "0" * 64}
    assert verify(restored_copy, **older).matches
    restored_copy.run(statement)
    assert not verify(restored_copy, **older).matches


def test_of_an_older_backup_it_is_said_what_was_not_compared(restored_copy: Copy) -> None:
    restored_copy.run("ALTER FUNCTION greet(text) OWNER TO pg_monitor")
    verification = verify(restored_copy, objects=None)
    assert verification.matches
    (told,) = (text for text in texts(verification, "note") if text.startswith("owners and privileges"))
    assert told.endswith("were not compared but by number: the backup was made before they were recorded")
    assert not verify(restored_copy).matches


def test_a_role_without_rights_reads_the_same(untouched_copy: Copy, fresh_role: Callable[..., tuple[str, str]]) -> None:
    name, password = fresh_role(untouched_copy.server)
    as_role = untouched_copy.server.database(untouched_copy.name, user=name, password=password)
    assert read(as_role) == read(untouched_copy.database) == untouched_copy.manifest.objects


def test_many_large_objects_are_told_as_sums_and_one_that_differs_is_seen(restored_copy: Copy) -> None:
    restored_copy.run("SELECT lo_create(n) FROM generate_series(1000, 1100) AS n")
    first = read(restored_copy.database, large_objects=10**6)
    assert len(listed(first.groups)[LARGE] or ()) == 2
    for statement in ("ALTER LARGE OBJECT 1007 OWNER TO pg_monitor", "GRANT SELECT ON LARGE OBJECT 1008 TO PUBLIC"):
        restored_copy.run(statement)
        second = read(restored_copy.database, large_objects=10**6)
        assert second != first
        first = second


def test_a_default_that_was_written_out_and_what_is_left_out_say_nothing(restored_copy: Copy) -> None:
    before = read(restored_copy.database)
    restored_copy.run(
        "GRANT SELECT ON single TO pg_monitor",
        "REVOKE SELECT ON single FROM pg_monitor",
        "GRANT EXECUTE ON FUNCTION greet(text) TO PUBLIC",
        "GRANT UPDATE (id) ON single TO pg_monitor",
        "REVOKE UPDATE (id) ON single FROM pg_monitor",
        "GRANT UPDATE ON LARGE OBJECT 770002 TO pg_monitor",
        "REVOKE UPDATE ON LARGE OBJECT 770002 FROM pg_monitor",
        "CREATE SCHEMA elsewhere",
        "CREATE FUNCTION elsewhere.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE TABLE elsewhere.t (id int CHECK (id > 0))",
        "COMMENT ON TABLE elsewhere.t IS 'of another schema'",
    )
    assert read(restored_copy.database, exclude=("elsewhere",)) == before
    assert read(restored_copy.database) != before


OBJECTS = {
    "TABLE plain": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "ALL"],
    "TABLE shown": ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER", "ALL"],
    "SEQUENCE numbers": ["SELECT", "UPDATE", "USAGE", "ALL"],
    "FUNCTION doubled(int)": ["EXECUTE", "ALL"],
    "TYPE mood": ["USAGE", "ALL"],
    "SCHEMA own": ["CREATE", "USAGE", "ALL"],
    "SCHEMA public": ["CREATE", "USAGE", "ALL"],
    "LARGE OBJECT 4711": ["SELECT", "UPDATE", "ALL"],
    "LANGUAGE plpgsql": ["USAGE", "ALL"],
}
MADE = (
    "CREATE TABLE plain (id int, word text)",
    "CREATE VIEW shown AS SELECT * FROM plain",
    "CREATE SEQUENCE numbers",
    "CREATE FUNCTION doubled(int) RETURNS int LANGUAGE sql AS 'SELECT $1 * 2'",
    "CREATE TYPE mood AS ENUM ('ok')",
    "CREATE SCHEMA own",
    "SELECT lo_create(4711)",
)
ROLES = ("fact_owner", 'fact "reader"', "fact_Ä")


def some_grants(seed: int) -> list[str]:
    """Grants and revocations at random, by the owner and by whom it gave the right to, owners changed in between; what one may not do is tried all the same."""
    chosen = random.Random(seed)  # noqa: S311 - which grants are made is no secret
    roles = [f'"{role.replace(chr(34), chr(34) * 2)}"' for role in ROLES]
    statements = []
    for _ in range(120):
        what = chosen.choice(list(OBJECTS))
        kind, one, other = what.split()[0], chosen.choice(roles), chosen.choice([*roles, "PUBLIC"])
        privilege = chosen.choice(OBJECTS[what])
        if kind == "TABLE" and chosen.random() < 0.2:
            privilege = f"{chosen.choice(['SELECT', 'UPDATE', 'ALL'])} (word)"
        option = chosen.random() < 0.4 and other != "PUBLIC"
        statement = chosen.choice(
            [
                f"GRANT {privilege} ON {what} TO {other}{' WITH GRANT OPTION' if option else ''}",
                f"GRANT {privilege} ON {what} TO {other}{' WITH GRANT OPTION' if option else ''}",
                f"REVOKE {privilege} ON {what} FROM {other} CASCADE",
            ]
        )
        if chosen.random() < 0.4:
            statement = f"SET ROLE {one}; {statement}"
        elif chosen.random() < 0.1 and kind != "LANGUAGE":
            words = "VIEW shown" if what == "TABLE shown" else what
            statement = f"ALTER {words} OWNER TO {one}"
        elif chosen.random() < 0.1:
            thing = chosen.choice(["TABLES", "SEQUENCES", "FUNCTIONS", "TYPES"])
            where = chosen.choice(["", " IN SCHEMA own"])
            direction = chosen.choice(["GRANT ALL ON {} TO", "REVOKE ALL ON {} FROM"]).format(thing)
            statement = f"ALTER DEFAULT PRIVILEGES FOR ROLE {one}{where} {direction} {other}"
        statements.append(statement)
    return statements


@pytest.fixture
def with_roles() -> Iterator[Callable[[PostgresServer], None]]:
    """A factory: given a server, make the roles there; dropped after the test, when the databases are gone."""
    servers: list[PostgresServer] = []
    names = [f'"{role.replace(chr(34), chr(34) * 2)}"' for role in ROLES]

    def make(server: PostgresServer) -> None:
        if server not in servers:
            servers.append(server)
            server.execute("postgres", *(f"CREATE ROLE {name}" for name in names))

    yield make
    for server in servers:
        server.execute("postgres", *(f"DROP ROLE {name}" for name in names))


@pytest.mark.parametrize(
    ("source", "target"),
    [(16, 16), *(pytest.param(*pair, marks=pytest.mark.services) for pair in [(15, 15), (15, 18), (16, 18), (18, 18)])],
)
@pytest.mark.parametrize("seed", range(4))
def test_whatever_was_granted_a_restore_says_the_same(  # noqa: PLR0917 - fixtures and parameters
    request: pytest.FixtureRequest,
    with_roles: Callable[[PostgresServer], None],
    fresh_database: Callable[..., str],
    tmp_path: Path,
    source: int,
    target: int,
    seed: int,
) -> None:
    servers: list[PostgresServer] = [request.getfixturevalue(f"postgres_{major}") for major in (source, target)]
    for server in servers:
        with_roles(server)
    name = fresh_database(servers[0], *MADE)
    done = 0
    with servers[0].connect(name) as connection:
        for statement in some_grants(seed):
            with contextlib.suppress(psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidGrantOperation):
                connection.execute(statement.encode())
                done += 1
            connection.execute("RESET ROLE")
    assert done > 60
    archive = tmp_path / f"{secrets.token_hex(4)}.pgdump"
    # With either major's pg_dump: from 17 on it does not write ALL for what older servers have.
    servers[0].run("pg_dump", "-Fc", f"--file={archive}", dbname=name, clients=servers[seed % 2])
    copy = fresh_database(servers[1])
    servers[1].run("pg_restore", "--exit-on-error", f"--dbname={copy}", str(archive))
    before = read(servers[0].database(name))
    after = read(servers[1].database(copy), dumped_from=source * 10_000)
    assert compare_objects(a_manifest().model_copy(update={"objects": before}), RESTORED, after) == ()
