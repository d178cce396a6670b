"""The mark of a damaged backup: what it is worth with it, in every place that counts backups."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.catalogue import USABLE, State
from core.damage import Damaged, worth_with_mark
from core.errors import DamageError, PermanentError
from core.keys import DAMAGED, PROVEN
from core.objectives import check_objectives
from core.restored_comparison import ComparisonFinding, Kind, Verification
from core.retention import plan_retention
from tasks.catalogue import read_catalogue
from tasks.chosen_backup import find_backup, find_backup_to_drill
from tasks.damage_mark import write_mark
from tasks.kept_reads import KeptReads
from tasks.own_metrics import read_environment
from tasks.restore_steps import require_match
from tasks.trust import Examiner
from tests.fix_keeping import STRANGE_KEY, Keeping, id_of, ids_left, prune, texts
from tests.test_retention import NOON, catalogues, policies, zones

SHA = "ab" * 32
worths = st.sampled_from(("incomplete", "uploaded", "decoded", "proven"))
marks = st.builds(
    Damaged,
    backup_id=st.just("20260310T110000Z-00000000"),
    manifest_sha256=st.sampled_from((SHA, "cd" * 32)),
    found=st.text(max_size=20),
    found_at=st.datetimes(timezones=st.just(UTC)),
    flow=st.sampled_from(("dr-drill", "restore")),
    run_id=st.text(max_size=5),
    whole_at=st.none() | st.datetimes(timezones=st.just(UTC)),
)


@given(worths, st.none() | marks)
def test_a_mark_only_takes_and_only_while_it_stands_and_of_its_own_manifest(worth: State, mark: Damaged | None) -> None:
    found = worth_with_mark(worth, mark, SHA)
    assert found in {worth, "damaged"}
    stands = mark is not None and mark.whole_at is None and mark.manifest_sha256 == SHA
    assert (found == "damaged") == (stands and worth != "incomplete")


@given(catalogues, policies, zones, st.data())
def test_retention_never_counts_a_damaged_backup_nor_deletes_a_good_one_for_it(
    entries: Any, policy: Any, zone: Any, data: Any
) -> None:
    names = [entry.backup_id for entry in entries]
    bad = data.draw(st.sets(st.sampled_from(names))) if names else set()
    worth: dict[str, State] = dict.fromkeys(bad, "damaged")
    plan = plan_retention(entries, policy, NOON, zone, worth=worth)
    without = plan_retention([entry for entry in entries if entry.backup_id not in bad], policy, NOON, zone)
    assert set(plan.deleted) <= set(without.deleted)
    assert not bad & set(plan.deleted)


def marked(keeping: Keeping, backup_id: str, *, whole: bool = False, key: Any = None, sha256: str = "") -> None:
    now = datetime.now(UTC)
    mark = Damaged(
        backup_id=backup_id,
        manifest_sha256=sha256 or keeping.manifest_sha256(backup_id),
        found="the stored bytes' SHA-256 is another",
        found_at=now - timedelta(hours=1),
        flow="dr-drill",
        run_id="run-7",
        whole_at=now if whole else None,
    )
    write_mark(keeping.store, keeping.environment, "app", mark, key or keeping.keys[0])


def chosen(keeping: Keeping, wanted: str) -> Any:
    return find_backup(keeping.store, keeping.environment, "app", keeping.keys, wanted)[0]


@pytest.mark.parametrize("state", ["decoded", "proven"])
def test_a_damaged_backup_is_no_recovery_point_and_passed_over_with_its_reason(keeping: Keeping, state: str) -> None:
    older, newest = keeping.add(id_of(2), "proven"), keeping.add(id_of(1, 1), state)
    marked(keeping, newest)
    for wanted in ("newest-decoded", "newest-proven", f"before:{datetime.now(UTC).isoformat()}"):
        found = chosen(keeping, wanted)
        assert found.backup_id == older, wanted
        assert "is damaged: a drill found so" in found.findings[0].text
        assert "passed over" in found.findings[0].text
        assert "run-7" in found.findings[0].text
    assert find_backup_to_drill(keeping.store, keeping.environment, "app", keeping.keys)[0].backup_id == older
    examiner = Examiner(keeping.store, keeping.environment, "app", keeping.keys)
    known = examiner.verified(read_catalogue(keeping.store, keeping.environment, "app"))
    assert known.recovery_point is not None
    assert known.recovery_point.backup_id == older
    checks = check_objectives("local", "app", known, keeping.environment.objectives, datetime.now(UTC))
    assert newest not in checks[0].found + checks[1].found


def test_who_names_a_damaged_backup_gets_it_and_is_told(keeping: Keeping) -> None:
    name = keeping.add(id_of(1), "proven")
    marked(keeping, name)
    found = chosen(keeping, name)
    assert (found.backup_id, found.state, found.passed_over) == (name, "damaged", ())
    assert "is damaged" in found.own
    with pytest.raises(PermanentError, match=r"no backup is decoded yet; .* is damaged"):
        chosen(keeping, "newest-decoded")


def test_a_mark_that_was_taken_away_is_none(keeping: Keeping) -> None:
    name = keeping.add(id_of(1), "proven")
    marked(keeping, name, whole=True)
    found = chosen(keeping, "newest-proven")
    assert (found.backup_id, found.findings) == (name, ())


def test_a_snapshot_in_the_future_is_passed_over_with_a_note_and_had_by_its_id(keeping: Keeping) -> None:
    real, future = keeping.add(id_of(1)), keeping.add(id_of(-365, 1), "proven")
    for found in (
        chosen(keeping, "newest-decoded"),
        find_backup_to_drill(keeping.store, keeping.environment, "app", keeping.keys)[0],
    ):
        assert found.backup_id == real
        assert f"the snapshot of {future} lies in the future" in found.findings[0].text
        assert [one.backup_id for one in found.choices] == [real]
    assert chosen(keeping, future).backup_id == future
    with pytest.raises(PermanentError, match=r"no backup is proven yet; the snapshot of .* lies in the future"):
        chosen(keeping, "newest-proven")
    known = read_catalogue(keeping.store, keeping.environment, "app")
    checks = check_objectives("local", "app", known, keeping.environment.objectives, datetime.now(UTC))
    assert "that of the machine that took the backup" in checks[0].next_step


@pytest.mark.parametrize("how", ["junk", "forged", "another manifest's", "another state", "another backup's"])
def test_a_mark_that_cannot_be_trusted_hides_nothing_and_is_told(keeping: Keeping, how: str) -> None:
    older, name = keeping.add(id_of(2)), keeping.add(id_of(1, 1), "proven")
    place = keeping.folder(name) + DAMAGED
    if how == "junk":
        keeping.store.put(place, b"junk")
    elif how == "another state":
        keeping.store.put(place, keeping.store.get(keeping.folder(name) + PROVEN))
    elif how == "another backup's":
        marked(keeping, older)
        keeping.store.put(place, keeping.store.get(keeping.folder(older) + DAMAGED))
    else:
        marked(keeping, name, **({"key": STRANGE_KEY} if how == "forged" else {"sha256": SHA}))
    for wanted in ("newest-proven", name):
        found = chosen(keeping, wanted)
        assert (found.backup_id, found.state) == (name, "proven")
        assert f"That {name} is damaged is not known by it" in found.own


def test_retention_keeps_the_good_ones_and_warns_and_does_not_fail(keeping: Keeping) -> None:
    good = [keeping.add(id_of(90 + number, number)) for number in range(3)]
    bad = keeping.add(id_of(50, 9), "proven")
    marked(keeping, bad)
    outcome = prune(keeping)
    assert set(ids_left(keeping)) == {bad, *good[:2]}
    assert "is damaged" in texts(outcome, "warning")
    assert texts(outcome, "error") == ""
    assert {"decoded", "proven"} == USABLE


def test_metrics_tell_a_marked_backup_and_the_good_ones_age(keeping: Keeping, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.own_metrics.ObjectStore.open", lambda _environment: keeping.store)
    monkeypatch.setattr("tasks.own_metrics.signing_keys", lambda _environment: keeping.keys)
    monkeypatch.setattr(keeping.store.client, "close", lambda: None)
    good = keeping.add(id_of(2))
    for number in (1, 30):
        marked(keeping, keeping.add(id_of(number, number)))
    facts = read_environment(keeping.environment, KeptReads(), datetime.now(UTC))
    found = facts.databases[0]
    assert found.recovery_point is not None
    assert found.recovery_point.strftime("%Y%m%dT%H%M%SZ") == good.split("-")[0]
    assert facts.distrusted["backup"] == 2
    assert found.backups == {"damaged": 2, "decoded": 1}


@pytest.mark.parametrize("kind", ["b-trees", "pages"])
def test_a_damaged_b_tree_or_page_of_the_copy_is_no_damage_of_the_backup(kind: Kind) -> None:
    tree = ComparisonFinding(kind=kind, severity="mismatch", text="public.t is damaged in the copy")
    table = ComparisonFinding(kind="tables", severity="mismatch", text="table public.t is missing")
    built = Verification(tables_compared=1, rows=1, findings=(tree,))
    assert not built.matches
    assert built.mismatches == (tree.text,)
    assert built.damage == ()
    with pytest.raises(PermanentError, match="its server damaged it") as raised:
        require_match(built, "primary/app")
    # A DamageError would mark the backup in the bucket.
    assert type(raised.value) is PermanentError
    both = Verification(tables_compared=1, rows=1, findings=(tree, table))
    assert both.damage == (table.text,)
    with pytest.raises(DamageError, match=r"public\.t is missing"):
        require_match(both, "primary/app")
