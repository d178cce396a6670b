"""A breaking migration was applied and the new version does not come up: nobody goes back or forward by himself, and a person's word is carried out."""

import re

import pytest

from tests.fix_release_migration import ADD_COLUMN, DIVIDE, Migrating, applied
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-migration")]


@pytest.fixture
def held(migrating: Migrating) -> Migrating:
    """Held: the migration was applied, and the new version crashes."""
    state = migrating.release("bad", schema_compatibility="breaking")
    assert (state.type.value, state.name) == ("FAILED", "Failed"), state.message
    message = str(state.message)
    assert "HELD, it is neither out nor back: traffic and Pods were left as they are" in message
    (journal,) = migrating.stage.journals()
    assert f"nightshift release-recovery stage {journal.release_id} --decision forward|back --reason" in message
    assert message.count("it ended with exit code 1") == 1
    return migrating


def decide(migrating: Migrating, decision: str) -> str:
    """Give the decision, and return the message of the run, with its state before."""
    (journal,) = migrating.stage.journals()
    state = migrating.stage.recover(release_id=journal.release_id, decision=decision, reason="incident 7")
    return f"{state.name}: {state.message}"


def test_pods_are_left_as_they_are_the_journal_is_open_and_the_lease_free(held: Migrating) -> None:
    stage = held.stage
    (journal,) = stage.journals()
    assert (journal.is_open, journal.is_held, journal.goes_back) == (True, True, False)
    assert stage.image_of() == stage.image("bad")
    assert stage.image_of("worker") == stage.image("v1")
    assert held.cron_is_suspended()
    assert stage.lease_holder() == ""


def test_a_sweep_names_what_is_held_and_writes_neither_report_nor_journal(held: Migrating) -> None:
    reports, (journal,) = len(held.stage.reports()), held.stage.journals()
    for _ in range(2):
        state = held.stage.recover()
        assert state.is_completed(), state.message
        assert f"{journal.release_id}: HELD" in str(state.message)
    assert len(held.stage.reports()) == reports
    assert held.stage.journals() == [journal]


def test_no_other_release_begins_and_no_rollback_meanwhile(held: Migrating) -> None:
    state = held.release("v3")
    assert state.is_failed()
    assert "was left open" in str(state.message)
    back = held.stage.run_rollback("it is bad")
    assert back.is_failed()
    assert len(held.stage.journals()) == 1
    assert held.stage.image_of() == held.stage.image("bad")


def test_back_by_a_persons_word_brings_the_old_version_back_and_keeps_the_word(held: Migrating) -> None:
    told = decide(held, "back")
    assert told.startswith("Completed: "), told
    assert held.serves_old()
    (journal,) = held.stage.journals()
    assert next(one.facts for one in journal.entries if one.event == "decided") == {
        "what": "go back",
        "why": "incident 7",
    }
    assert journal.why == "incident 7"


def test_forward_by_a_persons_word_that_fails_again_is_held_again(held: Migrating) -> None:
    told = decide(held, "forward")
    assert told.startswith("Failed: "), told
    assert "HELD" in told
    (journal,) = held.stage.journals()
    assert journal.is_held
    assert len(held.jobs()) == 1
    assert held.stage.recover().is_completed()


def test_forward_by_a_persons_word_completes_the_release_once_its_cause_is_mended(held: Migrating) -> None:
    assert held.stage.controllers is not None
    held.stage.controllers.mark(b"bad".hex(), "good")
    told = decide(held, "forward")
    assert told.startswith("Completed: "), told
    stage = held.stage
    assert stage.journals()[0].outcome == "released"
    assert {stage.image_of(), stage.image_of("worker")} == {stage.image("bad")}
    assert not held.cron_is_suspended()
    assert len(held.ran) == 1


def test_a_migration_that_a_person_completed_by_hand_is_taken_as_complete_on_his_word(migrating: Migrating) -> None:
    migrating.statements = {1: (ADD_COLUMN, DIVIDE)}
    state = migrating.release(schema_compatibility="breaking")
    assert "a breaking migration is applied in part" in str(state.message)
    migrating.execute(applied("a_002"))
    told = decide(migrating, "forward")
    assert told.startswith("Completed: "), told
    (journal,) = migrating.stage.journals()
    assert journal.outcome == "released"
    # A rollback must know that the schema is another one.
    assert int(journal.facts_of("migrate the database")["applied"]) >= 1
    assert len(migrating.ran) == 1


def test_a_rollback_after_a_breaking_migration_is_refused_and_says_what_a_restore_would_lose(
    migrating: Migrating,
) -> None:
    migrating.stage.settings["release"]["backup"] = True
    assert migrating.release(schema_compatibility="breaking").is_completed()
    migrating.execute("INSERT INTO orders SELECT n, 1 FROM generate_series(1, 1000) AS n", "SELECT pg_sleep(1)")
    wait_until(
        lambda: migrating.ask("SELECT n_tup_ins >= 1000 FROM pg_stat_user_tables WHERE relname = 'orders'") == (True,),
        "the writes are counted",
    )
    state = migrating.stage.run_rollback("it is bad")
    assert state.is_failed()
    message = str(state.message)
    (journal,) = migrating.stage.journals()
    assert "a_002 were applied and the release was called breaking" in message
    assert f"restore backup {journal.facts_of('back up app')['backup']} of app" in message
    found = re.search(r"at least (\d+) rows in (\d) tables were written since \(public\.orders (\d+)", message)
    assert found, message
    assert int(found[1]) >= 1000
    assert migrating.stage.image_of() == migrating.stage.image("v2")


def test_the_refusal_comes_though_the_database_is_away_and_says_that_the_loss_is_not_known(
    migrating: Migrating,
) -> None:
    migrating.stage.settings["release"]["backup"] = True
    assert migrating.release(schema_compatibility="breaking").is_completed()
    migrating.stage.settings["databases"]["app"]["port"] = 9
    state = migrating.stage.run_rollback("it is bad")
    assert state.is_failed()
    assert "the schema is not compatible" in str(state.message)
    assert "how much is not known" in str(state.message)
