"""The dry run of a restore: it meets the refusals of the real one, tells what would be done, and changes nothing at all."""

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from prefect.client.orchestration import get_client
from psycopg import sql

from core.database_statements import comment_on_database, marker_of, temporary_name
from core.swap_plan import Marker as SwapMarker
from core.swap_plan import marker_text
from deployments.command.follow import read_table
from tasks.recording import utc_now
from tasks.restore_locks import hold_locks
from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer

pytestmark = pytest.mark.xdist_group("prefect")


def look(server: PostgresServer) -> Any:
    """All that a dry run could change on a server: databases with their comments and doors, roles, locks that are held, and whether anything was written at all."""
    with psycopg.connect(server.conninfo(), autocommit=True) as session:
        return [
            session.execute(query).fetchall()
            for query in (
                "SELECT datname, datallowconn, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY 1",
                "SELECT rolname, rolsuper, rolcreatedb FROM pg_roles ORDER BY 1",
                "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'",
                "SELECT pg_snapshot_xmax(pg_current_snapshot())",
            )
        ]


@pytest.fixture
def untouched(night: Night, postgres_15: PostgresServer, postgres_18: PostgresServer) -> Iterator[Callable[[], None]]:
    """A function that notes how servers, bucket and spool's folder are; at the test's end they are so still."""
    noted: list[Any] = []

    def now() -> Any:
        servers = [look(server) for server in (postgres_15, night.server, postgres_18)]
        return [servers, sorted(night.keys), sorted(path.name for path in night.folder.iterdir())]

    yield lambda: noted.append(now())
    (before,) = noted
    assert now() == before


def dry_run(night: Night, **parameters: Any) -> tuple[Any, dict[str, str]]:
    """Run it; its state, and the table that it showed."""
    state = night.restore(**{"backup": "newest-decoded", "target": "copy_of_first", "dry_run": True} | parameters)
    with get_client(sync_client=True) as client:
        rows = read_table(client, state.state_details.flow_run_id, "restore-plan-")
    return state, {row["what"]: row["value"] for row in rows}


def refused(night: Night, **parameters: Any) -> str:
    """The message of a dry run that is refused, which its table tells too."""
    state, plan = dry_run(night, **parameters)
    assert state.is_failed(), state.message
    message = str(state.message)
    assert "dry run of" in message
    assert message.endswith("Nothing was changed")
    told = plan.get("REFUSED") or plan["SWAP REFUSED"]
    assert told.rstrip(".;") in message
    return message


def test_it_tells_what_would_be_done_and_changes_nothing(night: Night, untouched: Callable[[], None]) -> None:
    night.run(databases=["first"])
    night.drill(databases=["first"])
    # What an earlier, killed process left is the next real restore's to sweep.
    (night.folder / "nightshift-spool-of-a-dead-one").mkdir()
    (night.folder / "nightshift-spool-of-a-dead-one" / "lock").touch()
    untouched()
    state, plan = dry_run(night)
    assert state.is_completed(), state.message
    assert "nothing was changed" in str(state.message)
    assert list(plan) == [
        "backup", "of", "state", "snapshot", "would be lost", "becomes", "to fetch", "to restore", "spool", "expected time", "overwritten", "server",
    ]  # fmt: skip
    assert plan["backup"] in str(state.message)
    assert plan["state"] == "proven"
    assert plan["of"].startswith(f"database {night.names['first']} on 127.0.0.1:")
    assert plan["snapshot"].endswith(" UTC")
    assert plan["would be lost"].startswith("everything written since: in the last ")
    assert plan["becomes"] == "new database copy_of_first on primary"
    assert plan["to restore"].endswith(", 1 tables")
    assert "are free beside the reserve" in plan["spool"]
    assert plan["expected time"].endswith("from past drills")
    assert plan["overwritten"] == "nothing"
    assert plan["server"].startswith("PostgreSQL 16")


def test_the_live_databases_own_name_and_any_that_exists_are_refused(
    night: Night, untouched: Callable[[], None]
) -> None:
    night.run(databases=["first"])
    untouched()
    for name in (night.names["first"], night.names["second"]):
        assert f"under the name ({name} on" in (message := refused(night, target=name))
        assert "a database of this name exists, and none is ever overwritten" in message
    assert "restore under the name ('template1')" in refused(night, target="template1")


def test_what_the_server_lacks_is_refused(
    night: Night, postgres_15: PostgresServer, fresh_role: Callable[..., tuple[str, str]], untouched: Callable[[], None]
) -> None:
    night.run(databases=["first"])
    role, password = fresh_role(night.server)
    login = night.server.database("postgres", user=role, password=password).model_dump(exclude_defaults=True)
    night.settings["servers"] = {
        "older": server_settings(postgres_15),
        "humble": {key: value for key, value in login.items() if key != "name"},
    }
    untouched()
    assert "older than the dump's 16" in refused(night, server="older")
    message = refused(night, server="humble")
    assert f"{role} may not make databases. ALTER ROLE {role} CREATEDB. Nothing" in message


@pytest.mark.services
def test_a_standby_an_older_server_and_a_role_without_rights_are_refused_by_dry_run_restore_and_drill_alike(  # noqa: PLR0917 - fixtures
    night: Night,
    postgres_15: PostgresServer,
    postgres_18: PostgresServer,
    standby: tuple[PostgresServer, str],
    fresh_role: Callable[..., tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    night.run(databases=["first"])
    reader, _ = standby
    monkeypatch.setenv(reader.password_variable, reader.password)
    role, password = fresh_role(postgres_18)
    postgres_18.execute("postgres", f"GRANT EXECUTE ON FUNCTION pg_control_system() TO {role}")
    login = postgres_18.database("postgres", user=role, password=password).model_dump(exclude_defaults=True)
    night.settings["servers"] = {
        "reader": server_settings(reader),
        "older": server_settings(postgres_15),
        "humble": {key: value for key, value in login.items() if key != "name"},
    }
    servers = (postgres_15, postgres_18)
    before = [look(server)[:3] for server in servers]
    for name, said in (
        ("reader", "it is a standby, which is read-only. Name its primary"),
        ("older", "older than the dump's 16"),
        ("humble", f"{role} may not make databases"),
    ):
        night.settings["drill"] = {"scratch": "server", "server": name}
        assert said in refused(night, server=name)
        for state in (
            night.restore(backup="newest-decoded", target="copy_of_first", server=name),
            night.drill(databases=["first"]),
        ):
            assert state.is_failed()
            assert said in str(state.message)
    assert [look(server)[:3] for server in servers] == before


def test_extensions_that_the_server_lacks_are_refused_or_listed_as_left_out(
    night: Night, postgres_15: PostgresServer, fresh_database: Callable[..., str], untouched: Callable[[], None]
) -> None:
    name = fresh_database(
        postgres_15, "CREATE EXTENSION citext", "CREATE TABLE mail (a citext)", "CREATE TABLE plain (id int)"
    )
    night.settings["databases"] = {"first": postgres_15.database(name).model_dump(exclude_defaults=True)}
    assert night.run().is_completed()
    untouched()
    assert "the server does not offer: citext" in refused(night)
    state, plan = dry_run(night, allow_missing_extensions=True)
    assert state.is_completed(), state.message
    assert "it needs the extension citext" in plan["left out"]
    assert "across versions" in plan["note"]


def test_another_restores_name_and_anothers_leftover_are_told_and_stay(night: Night) -> None:
    night.run(databases=["first"])
    left = secrets.token_hex(4)
    night.server.execute("postgres", f"CREATE DATABASE {temporary_name(left)} TEMPLATE template0")
    marker = marker_of("restore", "night", left, "b", utc_now())
    night.server.execute("postgres", comment_on_database(temporary_name(left), marker.text))
    try:
        with hold_locks(night.server.database("postgres"), "0a1b2c3d", "copy_of_first"):
            before = look(night.server)
            message = refused(night)
            assert "another restore is making a database called copy_of_first (nightshift restore 0a1b2c3d" in message
            assert look(night.server) == before
        state, plan = dry_run(night)
        assert state.is_completed(), state.message
        assert f"remove it: DROP DATABASE {temporary_name(left)}" in plan["note"]
    finally:
        night.server.execute("postgres", f"DROP DATABASE {temporary_name(left)}")


def test_tables_that_are_not_there_and_a_disk_too_small_are_refused(
    night: Night, untouched: Callable[[], None]
) -> None:
    night.settings["databases"]["first"]["jobs"] = 2
    assert night.run(databases=["first"]).is_completed()
    untouched()
    assert "no table with rows in this backup is called 'public.nobody'" in refused(night, tables=["public.nobody"])
    night.settings["restore"]["spool_reserve_mib"] = 1 << 30
    assert "are free beside the reserve" in refused(night)
    night.settings["restore"] = {"spool_reserve_mib": 16, "spool_directory": str(night.folder / "nowhere")}
    assert "Correct spool_directory" in refused(night)


def test_damage_that_a_restore_would_meet_first_is_met(night: Night) -> None:
    night.settings["databases"]["first"]["jobs"] = 2
    night.run(databases=["first"])
    for part in ("toc.dat", "globals"):
        key = next(key for key in night.keys if part in key)
        body = night.s3.client.get_object(Bucket=night.bucket, Key=key)["Body"].read()
        damaged = body[:-1] + bytes([body[-1] ^ 1])
        night.s3.client.put_object(Bucket=night.bucket, Key=key, Body=damaged)
        assert "SHA-256" in refused(night)
        night.s3.client.put_object(Bucket=night.bucket, Key=key, Body=body)


def test_with_a_swap_it_tells_what_forbids_that_and_does_not_open_what_a_killed_swap_closed(
    night: Night, untouched: Callable[[], None]
) -> None:
    night.run(databases=["first"])
    live = night.names["first"]
    state, plan = dry_run(night, swap_live=True)
    assert state.is_completed(), state.message
    assert plan["swap"].startswith("nothing forbids it now")
    with psycopg.connect(night.server.conninfo("postgres"), autocommit=True) as session:
        row = session.execute("SELECT oid::int8 FROM pg_database WHERE datname = %s", (live,)).fetchone()
        assert row is not None
        marker = SwapMarker(
            restore_id="0a1b2c3d", live=live, live_oid=row[0], copied="copy", copied_oid=1, comment=None, begun=utc_now(), way_back="ALTER …"
        )  # fmt: skip
        session.execute(comment_on_database(live, marker_text(marker)).encode())
        session.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(live)))
    untouched()
    message = refused(night, swap_live=True)
    assert "the swap would be refused: a swap of" in message
    assert "Retry of the run that was killed, a restore with the swap, or undo-swap opens it" in message


@pytest.mark.services
def test_a_swap_for_a_database_that_the_backup_is_not_of_is_refused_unless_that_ones_name_is_said(night: Night) -> None:
    night.run(databases=["first"])
    was, now = night.names["first"], night.names["second"]
    night.settings["databases"]["first"]["name"] = now
    before = look(night.server)[0]
    message = refused(night, swap_live=True, backup_of="another")
    assert f"backup of the database {was}: the name {now} in the live database" in message
    assert f"--backup-of {was}" in message
    # Not only a dry run says so before anything is made.
    state = night.restore(backup="newest-decoded", swap_live=True)
    assert state.is_failed()
    assert f"backup of the database {was}" in str(state.message)
    assert look(night.server)[0] == before
    state, plan = dry_run(night, swap_live=True, backup_of=was)
    assert state.is_completed(), state.message
    assert (plan["of"].split(" on ")[0], plan["swap"].split(" now")[0]) == (f"database {was}", "nothing forbids it")


def test_the_command_prints_the_plan_and_has_it_in_its_json() -> None:
    code = (
        "from deployments.command.restore import plan_table; from deployments.command.terminal import console;"
        "console.print(plan_table([{'what': 'backup', 'value': '[b]x'}, {'what': 'REFUSED', 'value': 'no'}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert [line.split() for line in done.stdout.splitlines()] == [["backup", "[b]x"], ["REFUSED", "no"]]
