"""Drills that are killed at each of their phases, and run again: what was left is swept, nothing of others is touched, and no backup is half proven."""

import secrets
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from core.database_statements import comment_on_database, marker_of, temporary_name
from tasks.catalogue import read_catalogue
from tasks.object_store import ObjectStore
from tests.fix_flow_child import StartFlow, processes_in
from tests.fix_nightly import Night, server_settings
from tests.fix_postgres import PostgresServer
from tests.waiting import wait_until

# A process with its Prefect and a scratch server for each phase: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("prefect")]

POINTS = (
    "flows.dr_drill:start_scratch:after",
    "phase:fetch",
    "phase:globals",
    "phase:create",
    "phase:restore",
    "phase:analyze",
    "flows.dr_drill:compare:before",
    "flows.dr_drill:ask_invariants:before",
    "flows.dr_drill:try_controls:before",
    "flows.dr_drill:judge_drill:before",
    "flows.dr_drill:mark_proven:before",
    "flows.dr_drill:mark_proven:after",
    "tasks.report_steps:write_report:after",
)
MARKED = {"flows.dr_drill:mark_proven:after", "tasks.report_steps:write_report:after"}


def states(night: Night) -> list[str]:
    listed = read_catalogue(ObjectStore.open(night.environment), night.environment, "first")
    return [entry.state for entry in listed.entries]


def remains(night: Night) -> set[str]:
    """What drills left in the worker's folder, by kind."""
    return {path.name.rpartition("-")[0] for path in night.folder.iterdir() if path.name != "night.toml"}


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_next_drill_sweeps_what_was_left_and_proves_the_backup(
    night: Night, start_flow: StartFlow, point: str
) -> None:
    night.run(databases=["first"])
    before = set(night.keys)
    start_flow("dr_drill", point, "kill", databases=["first"]).wait_for_kill()
    # Proven is one object, written at once: it is there or not.
    assert states(night) == ["proven" if point in MARKED else "decoded"]
    assert (remains(night) != set()) == (point != "tasks.report_steps:write_report:after")
    wait_until(lambda: not processes_in(night.folder), "the end of the killed drill's server")
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert states(night) == ["proven"]
    assert remains(night) == set()
    assert before <= set(night.keys)


@pytest.fixture
def bystanders(postgres_18: PostgresServer) -> Iterator[set[str]]:
    """Databases on the scratch server that are none of our drills': another environment's drill's, a restore's, one without a marker, somebody's own."""
    made = []
    for purpose, environment in (("drill", "another"), ("restore", "night"), ("", "")):
        restore_id = secrets.token_hex(4)
        made.append(temporary_name(restore_id))
        postgres_18.execute("postgres", f"CREATE DATABASE {made[-1]} TEMPLATE template0")
        if purpose:
            marker = marker_of(purpose, environment, restore_id, "b", datetime(2026, 1, 2, tzinfo=UTC))  # type: ignore[arg-type]
            postgres_18.execute("postgres", comment_on_database(made[-1], marker.text))
    made.append(f"theirs_{secrets.token_hex(4)}")
    postgres_18.execute("postgres", f"CREATE DATABASE {made[-1]} TEMPLATE template0")
    yield set(made)
    for name in made:
        postgres_18.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def server_has(server: PostgresServer) -> tuple[set[str], set[str]]:
    """Its databases and its roles."""
    with server.connect() as session:
        databases = session.execute("SELECT datname FROM pg_database").fetchall()
        roles = session.execute("SELECT rolname FROM pg_roles").fetchall()
    return {name for (name,) in databases}, {name for (name,) in roles}


@pytest.mark.parametrize(
    "point", ["phase:create", "phase:restore", "phase:analyze", "flows.dr_drill:try_controls:before"]
)
def test_on_a_server_the_databases_and_roles_of_a_killed_drill_are_swept_and_no_others(  # noqa: PLR0917 - fixtures
    night: Night,
    start_flow: StartFlow,
    postgres_18: PostgresServer,
    bystanders: set[str],
    fresh_role: Callable[..., tuple[str, str]],
    point: str,
) -> None:
    owner, _ = fresh_role(night.server)
    night.server.execute(night.names["first"], f"ALTER TABLE account OWNER TO {owner}")
    night.settings["servers"]["scratch"] = server_settings(postgres_18)
    night.settings["drill"] = {"scratch": "server", "server": "scratch"}
    night.run(databases=["first"])
    before = server_has(postgres_18)
    assert bystanders <= before[0]
    start_flow("dr_drill", point, "kill", databases=["first"]).wait_for_kill()
    databases, roles = server_has(postgres_18)
    assert roles - before[1] == {owner}
    assert len(databases - before[0]) == (0 if point == "phase:create" else 1)
    state = night.drill(databases=["first"])
    assert state.is_completed(), state.message
    assert states(night) == ["proven"]
    assert server_has(postgres_18) == before
