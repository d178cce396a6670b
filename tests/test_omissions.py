"""What a backup has not: named in the manifest, and held against what pg_dump really leaves out."""

import re
import subprocess
from collections.abc import Callable

import pytest

from core.manifest import Omission
from tasks.omissions import read_omissions
from tasks.postgres import connect, libpq_environment
from tests.fix_postgres import PostgresServer

KIND = "options of a user mapping"


def read(server: PostgresServer, name: str, user: str, password: str) -> tuple[list[Omission], str]:
    """What is said of user mappings, and the schema as pg_dump dumps it for the same role."""
    database = server.database(name, user=user, password=password)
    with connect(database, application_name="test") as connection:
        omissions = read_omissions(connection, (), role_passwords=False)
    dump = subprocess.run(
        [server.bin / "pg_dump", "--schema-only"],
        env=libpq_environment(database),
        capture_output=True,
        text=True,
        check=True,
    )
    return [omission for omission in omissions if omission.kind == KIND], dump.stdout


def with_options(dump: str) -> set[str]:
    """The user mappings that a dump has with their options, as the omissions name them."""
    found = re.findall(r"^CREATE USER MAPPING FOR (\S+) SERVER (\S+) OPTIONS \(", dump, re.MULTILINE)
    return {f"of {user.lower()} on server {server}" for user, server in found}


@pytest.mark.parametrize("any_postgres", [15, 18], indirect=True)
@pytest.mark.parametrize("reads_everything", [True, False])
def test_options_of_user_mappings_that_the_role_cannot_see_are_named(
    any_postgres: PostgresServer,
    fresh_database: Callable[..., str],
    fresh_role: Callable[..., tuple[str, str]],
    reads_everything: bool,
) -> None:
    role, password = fresh_role(any_postgres)
    other, _ = fresh_role(any_postgres)
    name = fresh_database(
        any_postgres,
        "CREATE FOREIGN DATA WRAPPER wrapper",
        "CREATE SERVER near FOREIGN DATA WRAPPER wrapper",
        "CREATE SERVER far FOREIGN DATA WRAPPER wrapper",
        f"GRANT USAGE ON FOREIGN SERVER near TO {role}",
        *(
            f"CREATE USER MAPPING FOR {user} SERVER {server} OPTIONS (user 'x', password 'y')"
            for server in ("near", "far")
            for user in (role, other, "PUBLIC")
        ),
        "CREATE SERVER bare FOREIGN DATA WRAPPER wrapper",
        f"CREATE USER MAPPING FOR {other} SERVER bare",
        *([f"GRANT pg_read_all_data TO {role}"] if reads_everything else []),
    )
    superusers, whole = read(any_postgres, name, any_postgres.superuser, any_postgres.password)
    assert superusers == []
    told, dump = read(any_postgres, name, role, password)
    names = {omission.name for omission in told}
    # Whoever cannot read the table cannot tell that the mapping on `bare` has none.
    assert names == with_options(whole) - with_options(dump) | (
        set() if reads_everything else {f"of {other} on server bare"}
    )
    assert f"of {role} on server near" not in names
    assert {f"of {role} on server far", f"of {other} on server near", "of public on server near"} < names
    assert all(("if there are any" in omission.why) != reads_everything for omission in told)
