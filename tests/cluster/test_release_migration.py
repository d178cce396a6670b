"""Releases with a migration on the real node, with a real PostgreSQL that their Pods reach."""

import os
import shlex
import signal

import pytest

from core.migration_scripts import LOCK_CLASS, LOCK_OBJECT
from tests.fix_lab_migration import ADD_COLUMN, APPLIED, Lab
from tests.fix_release_child import crashed_run, release_in_child, request_of
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]

# A migrator as `knex migrate:up` is: each run applies the next of two, and ends well. Given the word "list", it tells which are still to be applied.
ONE_A_RUN = """\
import os, sys, psycopg2
known = {"a_001": "ALTER TABLE busy ADD COLUMN b int", "a_002": "ALTER TABLE busy ADD COLUMN c int"}
connection = psycopg2.connect(os.environ["DATABASE_URL"])
connection.autocommit = True
with connection.cursor() as cursor:
    cursor.execute("SELECT name FROM migrations")
    applied = {name for (name,) in cursor.fetchall()}
    pending = [name for name in known if name not in applied]
    if sys.argv[1:] == ["list"]:
        print(*pending, sep="\\n")
    elif pending:
        cursor.execute(known[pending[0]])
        cursor.execute("INSERT INTO migrations (name) VALUES (%s)", (pending[0],))
"""

# A migration that is in its middle for as long as a test wants.
UNTIL_TOLD = "DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM go_on) LOOP PERFORM pg_catalog.pg_sleep(0.1); END LOOP; END $$"


def test_backed_up_migrated_and_rolled_out_without_its_password_anywhere(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    # Long enough for its session to be seen on a busy machine.
    echo = "DO $$ BEGIN PERFORM pg_catalog.pg_sleep(2); RAISE NOTICE 'x'; END $$"
    lab.migrates(echo, ADD_COLUMN, APPLIED)
    command = lab.stage.settings["release"]["migration"]["command"]
    command[2] = command[2].replace("connection =", 'print(os.environ["DATABASE_URL"], flush=True)\nconnection =', 1)
    state = lab.release(schema_compatibility="breaking")
    assert state.is_completed(), state.message
    (journal,) = lab.stage.journals()
    assert journal.facts_of("migrate the database") == {"applied": 1, "migrations": "a_001", "attempts": 1}
    report = lab.stage.reports()[-1]
    (judged,) = [one for one in report.steps if one.name == "judge the migration, attempt 1"]
    passed = {one["check"] for one in judged.facts["checks"] if one["state"] == "passed"}
    assert passed == {"lock_timeout", "advisory lock"}
    backup_id = str(journal.facts_of("back up app")["backup"])
    assert "migration: postgresql://" in caplog.text
    for text in (caplog.text, str(state.message), journal.model_dump_json(), report.model_dump_json()):
        assert lab.postgres.server.password not in text
    refused = lab.stage.run_rollback("it is bad")
    assert refused.is_failed()
    assert "a_001 were applied and the release was called breaking. Best is a fix forward" in str(refused.message)
    assert f"restore backup {backup_id} of app" in str(refused.message)
    assert lab.stage.image_of() == lab.stage.image("v2")


@pytest.mark.parametrize("runs", [1, 2])
def test_what_is_pending_after_a_good_job_is_run_again_as_often_as_allowed_and_else_fails_the_release(
    lab: Lab, runs: int
) -> None:
    stage, program = lab.stage, ["python3", "-c", ONE_A_RUN]
    stage.settings["release"]["backup"] = False
    stage.settings["release"]["migration"] |= {
        "command": program,
        "pending_command": shlex.join([*program, "list"]),
        "runs": runs,
    }
    state = lab.release()
    assert len(lab.jobs()) == runs
    assert lab.applied() == ["a_001", "a_002"][:runs]
    if runs == 1:
        assert state.name == "RolledBack", state.message
        assert "still pending: a_002; it was run as often as release.migration.runs allows" in str(state.message)
        assert lab.serves_old()
    else:
        assert state.is_completed(), state.message
        facts = stage.journals()[0].facts_of("migrate the database")
        assert facts == {"applied": 2, "migrations": "a_001, a_002", "attempts": 2}
        assert stage.image_of() == stage.image("v2")


def test_half_way_is_partial_and_the_old_version_serves_on(lab: Lab) -> None:
    lab.stage.settings["release"]["backup"] = False
    lab.migrates(ADD_COLUMN, "SELECT 1/0", APPLIED)
    state = lab.release()
    assert state.name == "RolledBack", state.message
    assert "partial: the migration failed (exit code 1), and the schema is another one" in str(state.message)
    assert lab.serves_old()
    assert len(lab.jobs()) == 1


def test_a_session_that_holds_the_tables_lock_is_tried_against_longer_at_the_end_and_traffic_waits_only_so_long(
    lab: Lab,
) -> None:
    lab.stage.settings["release"]["backup"] = False
    lab.migrates(ADD_COLUMN, APPLIED, lock_timeout_ms=300, last_lock_timeout_ms=900, lock_attempts=2)
    with (
        lab.postgres.server.connect(lab.database, autocommit=False) as reader,
        lab.postgres.traffic(lab.database) as took,
    ):
        reader.execute("SELECT count(*) FROM busy")
        state = lab.release()
        reader.rollback()
    assert state.name == "RolledBack", state.message
    assert "clean: the migration failed, since it did not get a lock within lock_timeout" in str(state.message)
    assert "it was tried as often as release.migration.lock_attempts allows" in str(state.message)
    assert len(lab.jobs()) == 2
    # Queued behind ALTER TABLE for as long as lock_timeout, and no longer, in two tries; generous limits: a busy machine makes it wait besides.
    assert 0.5 < max(took) < 8
    assert sum(one for one in took if one > 0.25) < 12
    assert lab.serves_old()


def test_a_second_migrator_is_locked_out_and_the_first_is_named(lab: Lab) -> None:
    lab.stage.settings["release"]["backup"] = False
    lab.migrates(ADD_COLUMN, APPLIED, lock_wait_seconds=2)
    with lab.postgres.server.connect(lab.database) as other:
        other.execute("SET application_name = 'the other one'")
        other.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_OBJECT))
        state = lab.release()
    assert state.name == "RolledBack", state.message
    assert "another migrator holds its lock" in str(state.message)
    assert "application 'the other one'" in str(state.message)
    assert lab.serves_old()


@pytest.mark.parametrize(("compatibility", "image"), [("backward", "v1"), ("breaking", "v2")])
def test_killed_while_its_job_runs_the_job_is_waited_for_and_not_made_again(
    lab: Lab, compatibility: str, image: str
) -> None:
    stage = lab.stage
    stage.settings["release"]["backup"] = False
    lab.postgres.server.execute(lab.database, "CREATE TABLE go_on (a int)")
    lab.migrates(UNTIL_TOLD, ADD_COLUMN, APPLIED)
    request = request_of(stage, crashed_run(), "v2", migrate=True, schema_compatibility=compatibility)
    child = release_in_child(stage, request, kubeconfig=os.environ["KUBECONFIG"])
    wait_until(lambda: any((one.get("status") or {}).get("active") for one in lab.jobs()), "the Job runs", seconds=120)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    state = stage.recover()
    assert state.is_completed()
    assert f"{request.release_id}: its migration still runs" in str(state.message)
    assert stage.lease_holder() == request.release_id
    assert "holds it" in str(lab.release("v2").message)
    (job,) = lab.jobs()
    lab.postgres.server.execute(lab.database, "INSERT INTO go_on VALUES (1)")
    wait_until(lambda: lab.jobs()[0]["status"].get("conditions"), "the Job has ended", seconds=120)
    ended = stage.recover()
    assert ended.is_completed(), ended.message
    assert stage.image_of() == stage.image(image)
    assert [one["metadata"]["uid"] for one in lab.jobs()] == [job["metadata"]["uid"]]
    assert not stage.lease_holder()
    assert all(not one.is_open for one in stage.journals())


def test_a_new_version_that_crashes_after_a_breaking_migration_is_held_until_a_person_decides(lab: Lab) -> None:
    lab.stage.settings["release"]["backup"] = False
    state = lab.release("crashing", schema_compatibility="breaking")
    assert (state.is_failed(), state.name) == (True, "Failed"), state.message
    assert "HELD" in str(state.message)
    assert "crash" in str(state.message).lower()
    stage = lab.stage
    (journal,) = stage.journals()
    assert (journal.is_held, stage.lease_holder()) == (True, "")
    assert stage.image_of() == stage.image("crashing")
    reports = len(stage.reports())
    sweep = stage.recover()
    assert sweep.is_completed()
    assert "HELD" in str(sweep.message)
    assert len(stage.reports()) == reports
    back = stage.recover(release_id=journal.release_id, decision="back", reason="incident 7")
    assert back.is_completed(), back.message
    assert lab.serves_old()
