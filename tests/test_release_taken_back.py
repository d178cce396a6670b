"""Which release a rollback takes back: the newest that is live, whatever was tried and rolled back since."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import PermanentError
from core.release_journal import Journal, Outcome, with_entry
from core.release_rollback import live_releases, newest_release, passed_over, refuse_migrated
from core.signature import SigningKey
from tasks.recording import utc_now
from tests.fix_release import COMMIT, Stage, serving
from tests.fix_release_shift import blue_green

KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")
HASH = "a" * 64


def closed(release_id: str, outcome: Outcome, of: str = "", **migrated: str | int) -> Journal:
    kind = "rollback" if of else "release"
    journal = Journal(
        environment="stage", release_id=release_id, kind=kind, plan_id=of or release_id, plan_sha256=HASH, flow_run_id="x"
    )  # fmt: skip
    entry = {"at": utc_now(), "fence": 1, "holder": release_id}
    if migrated:
        journal = with_entry(journal, KEY, **entry, event="done", step="migrate the database", facts=migrated)
    return with_entry(journal, KEY, **entry, event="closed", facts={"outcome": outcome})


ONE, TWO = closed("r-1", "released"), closed("r-2", "released")
BACK, FAILED, UNCHANGED = closed("b-2", "rolled back", "r-2"), closed("r-4", "rolled back"), closed("r-3", "unchanged")


@pytest.mark.parametrize(
    ("journals", "asked", "found"),
    [
        ([ONE, TWO], "", "r-2"),
        ([ONE, TWO], "r-2", "r-2"),
        ([ONE, TWO, UNCHANGED], "", "r-2"),
        ([ONE, FAILED], "", "r-1"),
        ([ONE, FAILED, UNCHANGED, FAILED], "r-1", "r-1"),
        ([ONE, TWO, BACK], "r-1", "r-1"),
        ([ONE, TWO, BACK, closed("r-5", "released")], "", "r-5"),
    ],
)
def test_a_rollback_takes_the_newest_live_release_back(journals: list[Journal], asked: str, found: str) -> None:
    assert newest_release(journals, "stage", asked).release_id == found


@pytest.mark.parametrize(
    ("journals", "asked", "told"),
    [
        ([], "", "no release that could be taken back"),
        ([UNCHANGED], "", "no release that could be taken back"),
        ([FAILED], "", "no release that could be taken back"),
        ([ONE, TWO], "r-1", "r-1 is not the newest release that is live: r-2 is"),
        ([ONE, FAILED], "r-4", "r-4 is not the newest release that is live: r-1 is"),
        ([ONE, TWO, BACK], "", "r-2 was taken back already, by b-2; live is r-1.*--release r-1"),
        ([ONE, TWO, BACK, FAILED], "", "r-2 was taken back already, by b-2; live is r-1"),
        ([TWO, BACK], "", "r-2 was taken back already, by b-2, and no other one is live"),
    ],
)
def test_what_is_not_taken_back_is_refused_by_name(journals: list[Journal], asked: str, told: str) -> None:
    with pytest.raises(PermanentError, match=told):
        newest_release(journals, "stage", asked)


@given(st.lists(st.sampled_from(["released", "failed", "unchanged", "rollback", "named rollback"]), max_size=14))
def test_over_every_sequence_what_is_taken_back_is_what_serves(events: list[str]) -> None:
    """`serves`: the model, a stack of what came out. A rollback is asked for as a person would, and does what it is let do."""
    journals: list[Journal] = []
    serves: list[str] = []
    for number, event in enumerate(events):
        if event in {"released", "failed", "unchanged"}:
            outcome: Outcome = {"released": "released", "failed": "rolled back"}.get(event, "unchanged")  # type: ignore[assignment]
            journals.append(closed(f"r-{number}", outcome))
            serves += [f"r-{number}"] if event == "released" else []
        else:
            asked = serves[-1] if serves and event == "named rollback" else ""
            try:
                chosen = newest_release(journals, "stage", asked)
            except PermanentError as error:
                changed = [one for one in journals if one.outcome == "released" or one.kind == "rollback"]
                assert not serves or (not asked and changed[-1].kind == "rollback"), error
                continue
            assert chosen.release_id == serves.pop(), "never one that lies beneath another, nor one that is gone"
            later = {one.release_id for one in passed_over(journals, chosen)}
            assert not later & set(serves)
            journals.append(closed(f"b-{number}", "rolled back", chosen.release_id))
        assert [one.release_id for one in live_releases(journals)] == serves


def test_a_schema_that_a_release_left_which_was_rolled_back_itself_keeps_older_versions_from_coming_back() -> None:
    migrated = closed("r-4", "rolled back", applied=1, migrations="a_002")
    refuse_migrated([FAILED], ONE, "stage")
    with pytest.raises(PermanentError, match="r-4, newer than r-1 and rolled back, left the schema with a_002"):
        refuse_migrated(passed_over([ONE, migrated], ONE), ONE, "stage")


@pytest.mark.services
@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_after_a_fix_that_rolled_back_the_bad_version_that_is_live_can_be_taken_back(
    stage: Stage, strategy: str
) -> None:
    if strategy == "blue-green":
        blue_green(stage)
    assert stage.release("v2", adopt=True).is_completed()
    assert stage.release("v3", COMMIT).is_completed()
    live = stage.journals()[-1].release_id
    # Blue-green: it is prepared on the side that a rollback goes to.
    assert stage.release("bad", "3" * 40).name == "RolledBack"
    dry = stage.run_rollback("slow", dry_run=True)
    assert dry.is_completed(), dry.message
    back = stage.run_rollback("slow")
    assert back.is_completed(), back.message
    told = f"{live} ({stage.image('v3')}) was taken back, {stage.image('v2')} serves again: slow"
    assert told in str(back.message)
    assert serving(stage) == stage.image_of("worker") == stage.image("v2")
    again = stage.run_rollback("once more")
    assert again.is_failed()
    assert f"{live} was taken back already" in str(again.message)
