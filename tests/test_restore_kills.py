"""Restores killed at each of their phases, and run again: the live database is untouched, nothing half made has the name, and what is left is told."""

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest

from tests.fix_flow_child import StartFlow, processes_in
from tests.fix_nightly import Night
from tests.fix_restore import databases
from tests.waiting import wait_until

# A process with its Prefect for each phase: make test-services.
pytestmark = [pytest.mark.services, pytest.mark.xdist_group("prefect")]

TARGET = "copy_after_a_kill"
POINTS = (
    "phase:fetch",
    "phase:globals",
    "phase:create",
    "phase:restore",
    "phase:analyze",
    "tasks.restore_steps:verify_restored:before",
    "tasks.restore_backup:RestoredCopy.finish:before",
    "tasks.restore_backup:RestoredCopy.finish:after",
    "flows.restore:keep_record:after",
    "flows.restore:write_report:after",
)
# Before these there is no database yet; from the second on it has its name.
UNMADE = POINTS[:3]
NAMED = POINTS[7:]


def of_database(night: Night, name: str) -> tuple[Any, Any]:
    """Its rows, and its comment."""
    with night.server.connect(name) as session:
        rows = session.execute("SELECT count(*), sum(balance) FROM public.account").fetchone()
        comment = session.execute(
            "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = current_database()"
        ).fetchone()
    return rows, comment


def findings(night: Night) -> str:
    return " | ".join(finding.text for step in night.report.steps for finding in step.findings)


@pytest.mark.parametrize("point", POINTS)
def test_after_a_kill_the_live_database_is_as_it_was_and_the_next_restore_ends_right(
    night: Night, start_flow: StartFlow, restored_names: Callable[..., str], point: str
) -> None:
    restored_names(night.server, TARGET)
    night.run(databases=["first"])
    live = night.names["first"]
    night.server.execute(live, "DELETE FROM account WHERE id > 10")
    before = of_database(night, live)
    child = start_flow("restore", point, "kill", database="first", backup="newest-decoded", target=TARGET)
    child.wait_for_kill()
    left = databases(night.server)
    assert len(left) == (0 if point in (*UNMADE, *NAMED) else 1)
    state = night.restore(backup="newest-decoded", target=TARGET)
    if point in NAMED:
        # What has the name is whole, and is not overwritten.
        assert state.is_failed()
        assert "none is ever overwritten" in str(state.message)
    else:
        assert state.is_completed(), state.message
        assert all(f"DROP DATABASE {name} WITH (FORCE);" in findings(night) for name in left)
    assert databases(night.server) == left
    assert of_database(night, TARGET)[0][0] == 500
    assert of_database(night, TARGET)[1] == (None,)
    assert of_database(night, live) == before
    assert {path.name for path in night.folder.iterdir()} == {"night.toml"}


def test_a_kill_in_the_middle_of_pg_restore_ends_it_too(
    night: Night, start_flow: StartFlow, restored_names: Callable[..., str]
) -> None:
    restored_names(night.server, TARGET)
    night.server.execute(
        night.names["first"],
        "CREATE FUNCTION held() RETURNS bool LANGUAGE plpgsql AS"
        " 'BEGIN IF EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = ''hold_restores'') THEN PERFORM pg_catalog.pg_sleep(600); END IF; RETURN true; END'",
        "CREATE TABLE slow (id int CHECK (held()))",
        "INSERT INTO slow VALUES (1)",
    )
    night.run(databases=["first"])
    night.server.execute("postgres", "CREATE ROLE hold_restores")

    def sleeping() -> list[Any]:
        with night.server.connect() as session:
            return session.execute(
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'nightshift pg_restore%' AND wait_event = 'PgSleep'"
            ).fetchall()

    try:
        child = start_flow("restore", "phase:analyze", "kill", database="first", backup="newest-decoded", target=TARGET)
        wait_until(sleeping, "pg_restore at its slow table", seconds=120)
        assert any("pg_restore" in program or "python" in program for program in processes_in(night.folder))
        os.kill(child.process.pid, signal.SIGKILL)
        child.wait_for_kill()
        # The server notices that its client is gone when it next looks; the program itself must not be there any more.
        wait_until(lambda: not processes_in(night.folder), "the end of pg_restore")
    finally:
        night.server.execute("postgres", "DROP ROLE hold_restores")
    (left,) = databases(night.server)
    assert TARGET not in databases(night.server)
    state = night.restore(backup="newest-decoded", target=TARGET)
    assert state.is_completed(), state.message
    assert f"DROP DATABASE {left} WITH (FORCE);" in findings(night)
    assert of_database(night, TARGET)[0][0] == 500
