"""A release with its migration as a whole: what the database says decides whether it goes on, and the old version serves whenever it may."""

from collections.abc import Callable
from datetime import datetime

import pytest

from tasks.catalogue import read_catalogue, read_manifest
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys
from tests.fix_release_migration import ADD_COLUMN, DIVIDE, Migrating, applied

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-migration")]
MIGRATE, JUDGE = "migrate the database", "judge the migration, attempt 1"
SECRET = "hunter2-of-the-migration"


def test_a_good_migration_goes_first_and_what_it_did_stands_in_journal_and_report(migrating: Migrating) -> None:
    state = migrating.release()
    assert state.is_completed(), state.message
    (journal,) = migrating.stage.journals()
    assert journal.facts_of(MIGRATE) == {"applied": 1, "migrations": "a_002", "attempts": 1}
    facts = migrating.facts(JUDGE)
    assert (facts["before"], facts["after"], facts["invalid_indexes"]) == (1, 2, [])
    done = [one.step for one in journal.entries if one.event == "done"]
    assert done.index("suspend cronjob/nightly") < done.index(MIGRATE) < done.index("roll out deployment/hello")
    assert not migrating.cron_is_suspended()


def test_a_migration_that_fails_half_way_leaves_the_old_version_serving_and_says_partial(migrating: Migrating) -> None:
    migrating.statements = {1: (ADD_COLUMN, applied("a_002"), DIVIDE)}
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "partial: the migration failed" in str(state.message)
    assert "the migration table has 2 names, and had 1 and the schema is another one" in str(state.message)
    assert "complete it by hand, restore, or go on with a forward fix" in str(state.message)
    assert migrating.serves_old()
    (journal,) = migrating.stage.journals()
    failed = next(one for one in journal.entries if one.event == "failed")
    assert (failed.facts["outcome"], failed.facts["migrations"]) == ("partial", "a_002")
    assert len(migrating.jobs()) == 1


def test_a_migration_that_fails_and_changes_nothing_says_clean(migrating: Migrating) -> None:
    migrating.statements = {1: (DIVIDE,)}
    state = migrating.release(schema_compatibility="breaking")
    assert state.name == "RolledBack", state.message
    assert "clean: the migration failed" in str(state.message)
    assert "nothing was changed" in str(state.message)
    assert migrating.serves_old()
    assert len(migrating.jobs()) == 1


def test_what_is_pending_after_a_good_job_is_run_again(migrating: Migrating) -> None:
    migrating.stage.settings["release"]["migration"]["pending_command"] = "pending"
    migrating.statements = {1: (ADD_COLUMN, applied("a_002")), 2: ("CREATE TABLE more (a int)", applied("a_003"))}
    migrating.said = {1: "started=yes\nasked=0\npending:a_003\ncount=1", 2: "started=yes\nasked=0\ncount=0"}
    state = migrating.release()
    assert state.is_completed(), state.message
    (journal,) = migrating.stage.journals()
    assert journal.facts_of(MIGRATE) == {"applied": 2, "migrations": "a_002, a_003", "attempts": 2}


def test_what_is_still_pending_when_the_bound_is_reached_fails_the_release(migrating: Migrating) -> None:
    migrating.stage.settings["release"]["migration"] |= {"pending_command": "pending", "runs": 2}
    migrating.statements = {1: (ADD_COLUMN, applied("a_002")), 2: (applied("a_003"),)}
    still = "started=yes\nasked=0\npending:a_004\ncount=1"
    migrating.said = {1: still, 2: still}
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "still pending: a_004; it was run as often as release.migration.runs allows" in str(state.message)
    assert len(migrating.jobs()) == 2
    assert migrating.serves_old()


def test_an_index_left_invalid_by_a_job_that_succeeded_fails_the_release_and_is_named(migrating: Migrating) -> None:
    migrating.meanwhile = lambda _attempt: _leave_invalid(migrating)
    migrating.statements = {1: (applied("a_002"),)}
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "invalid index" in str(state.message)
    report = migrating.stage.reports()[-1]
    found = [one.text for step in report.steps for one in step.findings if one.severity == "error"]
    assert any("public.orders_kind was left invalid" in one for one in found)
    assert migrating.facts(JUDGE)["invalid_indexes"] == ["public.orders_kind"]
    assert migrating.serves_old()


def _leave_invalid(migrating: Migrating) -> None:
    with migrating.server.connect(migrating.database) as connection, pytest.raises(Exception, match="could not create"):
        connection.execute("CREATE UNIQUE INDEX CONCURRENTLY orders_kind ON orders (kind)")


def test_a_lock_that_is_not_to_be_had_is_tried_for_again_longer_at_the_end_and_then_nothing_was_changed(
    migrating: Migrating,
) -> None:
    with migrating.server.connect(migrating.database, autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM orders")
        state = migrating.release()
        reader.rollback()
    assert state.name == "RolledBack", state.message
    assert "clean: the migration failed, since it did not get a lock within lock_timeout" in str(state.message)
    assert "it was tried as often as release.migration.lock_attempts allows" in str(state.message)
    assert migrating.lock_timeouts == ["100ms", "100ms", "300ms"]
    assert migrating.serves_old()


def test_a_lock_that_is_let_go_meanwhile_is_had_by_a_later_try(migrating: Migrating) -> None:
    with migrating.server.connect(migrating.database, autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM orders")
        migrating.meanwhile = lambda attempt: reader.rollback() if attempt == 2 else None
        state = migrating.release()
    assert state.is_completed(), state.message
    assert len(migrating.ran) == 2


def test_a_job_that_was_removed_while_it_ran_is_never_run_again(migrating: Migrating) -> None:
    migrating.meanwhile = lambda _attempt: migrating.remove_job()
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "unknown: the Job was removed while it ran" in str(state.message)
    assert len(migrating.ran) == 1
    assert migrating.serves_old()


def test_without_migrating_no_job_is_made_and_no_backup_taken(migrating: Migrating) -> None:
    migrating.stage.settings["release"]["backup"] = True
    state = migrating.release(migrate=False)
    assert state.is_completed(), state.message
    assert migrating.jobs() == []
    assert not any(one.step.startswith("back up") for one in migrating.stage.journals()[0].entries)


def test_the_command_of_the_release_is_run_in_place_of_the_environments(migrating: Migrating) -> None:
    state = migrating.release(migrate_command=["npm", "run", "migrate:latest"])
    assert state.is_completed(), state.message
    assert migrating.variables[0]["args"][2:] == ["npm", "run", "migrate:latest"]


def test_a_window_that_is_closed_keeps_the_release_from_beginning(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating.stage.settings["release"]["migration"]["window"] = "02:00-04:00"
    migrating.stage.settings["timezone"] = "UTC"
    at = _clock(monkeypatch, "tasks.release_checklist.utc_now")
    at("2026-03-02T12:00:00+00:00")
    state = migrating.release()
    assert state.is_failed()
    assert "window 02:00-04:00 UTC is closed" in str(state.message)
    assert migrating.stage.journals() == []


def test_a_window_that_closes_after_the_checklist_stops_the_migration_and_all_goes_back(
    migrating: Migrating, monkeypatch: pytest.MonkeyPatch
) -> None:
    migrating.stage.settings["release"]["migration"]["window"] = "02:00-04:00"
    migrating.stage.settings["timezone"] = "UTC"
    _clock(monkeypatch, "tasks.release_checklist.utc_now")("2026-03-02T03:50:00+00:00")
    _clock(monkeypatch, "tasks.migrate.utc_now")("2026-03-02T03:56:00+00:00")
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "closes before the 5 min that are expected" in str(state.message)
    assert migrating.jobs() == []
    assert migrating.serves_old()


def _clock(monkeypatch: pytest.MonkeyPatch, name: str) -> Callable[[str], None]:
    def at(text: str) -> None:
        monkeypatch.setattr(name, lambda: datetime.fromisoformat(text))

    return at


def test_no_password_of_the_migrations_address_gets_into_log_journal_or_report(
    migrating: Migrating, caplog: pytest.LogCaptureFixture
) -> None:
    address = f"postgresql://app:{SECRET}@db.example:5432/shop"
    migrating.statements = {1: (f"DO $$ BEGIN RAISE 'cannot reach {address} password={SECRET}'; END $$",)}
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert "db.example" in caplog.text
    journal = migrating.stage.journals()[0].model_dump_json()
    report = migrating.stage.reports()[-1].model_dump_json()
    for text in (str(state.message), caplog.text, journal, report):
        assert SECRET not in text


def test_a_backup_is_taken_first_decoded_and_named_in_journal_and_report(migrating: Migrating) -> None:
    migrating.stage.settings["release"]["backup"] = True
    state = migrating.release()
    assert state.is_completed(), state.message
    environment = migrating.stage.environment
    store = ObjectStore.open(environment)
    (journal,) = migrating.stage.journals()
    backup_id = str(journal.facts_of("back up app")["backup"])
    (entry,) = read_catalogue(store, environment, "app").entries
    assert (entry.backup_id, entry.state) == (backup_id, "decoded")
    done = [one.step for one in journal.entries if one.event == "done"]
    assert done.index("back up app") < done.index("start the migration, attempt 1")
    assert backup_id in migrating.facts("back up app")["backup"]
    manifest, _ = read_manifest(store, environment, "app", backup_id, signing_keys(environment))
    # Of before the migration.
    (orders,) = [one for one in manifest.tables if one.name == "orders"]
    assert [one.name for one in orders.columns] == ["id", "kind"]


def test_a_backup_that_fails_leaves_database_and_workloads_as_they_were(migrating: Migrating) -> None:
    migrating.stage.settings["release"]["backup"] = True
    migrating.stage.settings["databases"]["app"]["password"] = "env:NIGHTSHIFT_TEST_SIGNING_KEY"
    state = migrating.release()
    assert state.name == "RolledBack", state.message
    assert migrating.jobs() == []
    assert migrating.serves_old()
