"""Retention carried out on a real S3 API: what goes, what stays, in which order, and what it costs."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from core.environment import Retention
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.keys import MANIFEST, owner_key
from core.segments import segment_key
from tasks.object_store import Deletion
from tasks.trust import MOST_DISTRUSTED
from tests.fix_keeping import (
    DATA,
    DECODED,
    KEY,
    PROVEN,
    STRANGE_KEY,
    Keeping,
    fill,
    id_of,
    ids_left,
    keeping_at,
    prune,
    texts,
)
from tests.fix_object_store import FaultProxy, S3Server


def test_old_backups_go_with_all_their_objects_and_the_others_stay(keeping: Keeping):
    old = fill(keeping, (40, 35))
    young = fill(keeping, (3, 2, 1))
    outcome = prune(keeping, current=young[-1])
    assert list(outcome.deleted) == old
    assert outcome.deleted_objects == 8
    assert ids_left(keeping) == young
    assert not any(backup_id in key for key in keeping.keys_in_bucket() for backup_id in old)
    assert outcome.findings == ()
    assert outcome.facts()["kept"] == 3
    again = prune(keeping, current=young[-1])
    assert (again.deleted, again.deleted_objects) == ((), 0)


def test_a_backup_of_many_files_goes_with_all_of_them(keeping: Keeping):
    old = keeping.add(id_of(40))
    for name in ("toc.dat", "4242.dat", "blobs_16400.toc"):
        keeping.store.put(keeping.folder(old) + segment_key(f"dump/{name}", 0), b"data")
    fill(keeping, (2, 1))
    assert prune(keeping).deleted_objects == 7
    assert not any(old in key for key in keeping.keys_in_bucket())


def test_a_dry_run_tells_the_same_plan_and_changes_nothing(keeping: Keeping):
    fill(keeping, (40, 35, 3, 2))
    keeping.put_data(id_of(5))
    before = keeping.keys_in_bucket()
    now = datetime.now(UTC)
    told = prune(keeping, dry_run=True, now=now)
    assert keeping.keys_in_bucket() == before
    assert (told.deleted_objects, told.dry_run) == (0, True)
    done = prune(keeping, now=now)
    assert (done.plan, done.deleted) == (told.plan, told.deleted)
    assert len(done.deleted) == 2


def test_the_manifest_goes_before_the_data(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults)
    keeping.claim()
    old = keeping.add(id_of(40))
    fill(keeping, (2, 1))
    # The second request, the one for the data, fails: what is left is no backup any more.
    s3_faults.refuse("POST", "?delete", after=1, status=400, body=b"<Error><Code>ExpiredToken</Code></Error>")
    with pytest.raises(TemporaryError, match="ExpiredToken"):
        prune(keeping)
    assert old not in ids_left(keeping)
    assert keeping.folder(old) + DATA in keeping.keys_in_bucket()
    keeping.close()


def refusing(keeping: Keeping, monkeypatch: pytest.MonkeyPatch, locked: set[str], denied: set[str]) -> None:
    """Have the store's answers say that these keys are locked or denied, as S3 does key by key, and delete the others."""
    real = keeping.store.delete

    def delete(keys: Iterator[str]) -> Deletion:
        asked = list(keys)
        outcome = real(key for key in asked if key not in locked | denied)
        outcome.locked |= {key: "compliance mode until 2027" for key in asked if key in locked}
        outcome.failed |= {key: "AccessDenied: no" for key in asked if key in denied}
        return outcome

    monkeypatch.setattr(keeping.store, "delete", delete)


def test_a_locked_manifest_keeps_its_data_and_is_no_failure(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    locked, free = fill(keeping, (40, 35))
    fill(keeping, (2, 1))
    refusing(keeping, monkeypatch, {keeping.folder(locked) + MANIFEST}, set())
    outcome = prune(keeping)
    assert outcome.deleted == (free,)
    assert keeping.folder(locked) + DATA in keeping.keys_in_bucket()
    assert "locked" in texts(outcome, "warning")
    assert texts(outcome, "error") == ""
    assert outcome.facts()["locked_objects"] == 1


def test_a_denied_deletion_is_a_failure_that_names_the_key(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    (denied,) = fill(keeping, (40,))
    fill(keeping, (2, 1))
    refusing(keeping, monkeypatch, set(), {keeping.folder(denied) + DATA})
    outcome = prune(keeping)
    assert outcome.deleted == (denied,)
    assert keeping.folder(denied) + DATA in texts(outcome, "error")


def test_objects_under_a_real_lock_are_reported_and_stay(s3_server: S3Server, locking_bucket: str):
    keeping = keeping_at(locking_bucket, s3_server, object_lock_days=1)
    keeping.claim()
    old = keeping.add(id_of(40))
    fill(keeping, (2, 1))
    outcome = prune(keeping)
    assert outcome.deleted == ()
    assert list(outcome.locked) == [keeping.folder(old) + MANIFEST]
    assert old in ids_left(keeping)
    keeping.close()


def test_credentials_that_may_not_see_locks_delete_nothing(
    s3_faults: FaultProxy, s3_server: S3Server, locking_bucket: str
):
    """S3 answers their HEAD as if there were no lock, and a DELETE would hide what is locked behind a marker."""
    seeing = keeping_at(locking_bucket, s3_server, object_lock_days=1)
    seeing.claim()
    seeing.add(id_of(40), "decoded")
    current = seeing.add(id_of(0), "decoded")
    seeing.close()
    keeping = keeping_at(locking_bucket, s3_faults, object_lock_days=1)
    s3_faults.refuse("HEAD", MANIFEST, status=200, times=9)
    before = keeping.keys_in_bucket()
    outcome = prune(keeping, current=current)
    assert outcome.deleted == ()
    assert f"own backup {current} shows no lock" in texts(outcome, "error")
    assert "s3:GetObjectRetention" in texts(outcome, "error")
    assert keeping.keys_in_bucket() == before
    keeping.close()


def test_a_backup_whose_dump_lacks_an_object_stands_in_for_no_whole_one(keeping: Keeping):
    whole = keeping.add(id_of(41), "decoded")
    gapped = keeping.add(id_of(40), "decoded", lacks=("table public.lost",))
    keeping.add(id_of(0), "decoded")
    outcome = prune(keeping)
    assert outcome.deleted == (gapped,)
    assert whole in ids_left(keeping)
    assert f"{gapped} does not count: its dump lacks table public.lost" in texts(outcome, "warning")
    assert texts(outcome, "error") == ""


def test_where_too_few_are_whole_the_newest_with_gaps_fill_the_number_up(s3_server: S3Server, bucket: str):
    keeping = keeping_at(bucket, s3_server, retention=Retention(minimum_keep=4))
    keeping.claim()
    keeping.add(id_of(50), "decoded")
    gapped = [keeping.add(id_of(day), "decoded", lacks=("table public.lost",)) for day in (42, 41, 40)]
    keeping.add(id_of(0), "decoded")
    outcome = prune(keeping)
    assert outcome.deleted == (gapped[0],)
    assert set(gapped[1:]) <= set(ids_left(keeping))


def test_only_a_success_of_the_run_lets_anything_be_deleted(keeping: Keeping):
    fill(keeping, (40, 3, 2))
    current = keeping.add(id_of(0), "uploaded")
    outcome = prune(keeping, current=current)
    assert outcome.deleted == ()
    assert f"{current} is uploaded, not decoded" in texts(outcome, "error")
    keeping.decode(current)
    assert len(prune(keeping, current=current).deleted) == 1


@pytest.mark.parametrize("minutes", [-6, 6])
def test_nothing_is_deleted_when_the_clocks_disagree(keeping: Keeping, minutes: int):
    fill(keeping, (40, 3, 2))
    keeping.put_data(id_of(5))
    before = keeping.keys_in_bucket()
    outcome = prune(keeping, now=datetime.now(UTC) + timedelta(minutes=minutes))
    assert keeping.keys_in_bucket() == before
    assert "clock says" in texts(outcome, "error")
    assert outcome.plan.refusal


def test_a_snapshot_in_the_future_stops_every_deletion(keeping: Keeping):
    fill(keeping, (40, 3, 2, -10))
    outcome = prune(keeping)
    assert outcome.deleted == ()
    assert "lies in the future" in texts(outcome, "error")


def test_a_folder_that_nobody_or_another_environment_owns_is_not_pruned(
    keeping: Keeping, s3_server: S3Server, bucket: str
):
    fill(keeping, (40, 3, 2))
    other = keeping_at(bucket, s3_server, name="production", prefix="local")
    before = keeping.keys_in_bucket()
    with pytest.raises(PermanentError, match="belongs to database 'app' of environment 'local'"):
        prune(other)
    other.keys = (STRANGE_KEY,)
    with pytest.raises(IntegrityError, match="does not know"):
        prune(other)
    keeping.store.delete([owner_key("local", "app")])
    with pytest.raises(PermanentError, match=r"no owner\.json"):
        prune(keeping)
    assert keeping.keys_in_bucket() == before - {owner_key("local", "app")}
    other.close()


def test_an_empty_folder_has_nothing_to_prune(s3_server: S3Server, bucket: str):
    keeping = keeping_at(bucket, s3_server)
    assert prune(keeping).plan.decisions == ()
    keeping.close()


def test_a_forged_newest_proven_does_not_stand_in_for_the_good_one(keeping: Keeping):
    proven = keeping.add(id_of(60), "proven")
    plain = fill(keeping, (50, 45), "decoded")
    forged = keeping.add(id_of(40), "decoded")
    keeping.put_state(forged, PROVEN, key=KEY, manifest_sha256="0" * 64)
    young = fill(keeping, (2, 1))
    outcome = prune(keeping)
    assert set(ids_left(keeping)) == {proven, forged, *young}
    assert list(outcome.deleted) == plain
    assert f"the state of {forged}" in texts(outcome, "error")


def test_a_backup_that_somebody_planted_does_not_count_among_those_always_kept(keeping: Keeping):
    good = fill(keeping, (50, 45, 40))
    planted = id_of(2)
    keeping.put_data(planted)
    source = keeping.store.get(keeping.folder(good[0]) + MANIFEST)
    keeping.store.put(keeping.folder(planted) + MANIFEST, source)
    keeping.store.put(keeping.folder(planted) + DECODED, keeping.store.get(keeping.folder(good[0]) + DECODED))
    keeping.store.put(keeping.folder(planted) + PROVEN, b"{}")
    outcome = prune(keeping)
    assert set(ids_left(keeping)) == {good[1], good[2], planted}
    assert "lies in the folder of" in texts(outcome, "error")
    reason = next(d.reason for d in outcome.plan.decisions if d.backup_id == planted)
    assert "forged or damaged" in reason


def test_a_manifest_signed_with_a_replaced_key_counts_while_the_key_is_accepted(keeping: Keeping):
    signed_before = [keeping.add(id_of(age), key=STRANGE_KEY) for age in (50, 45, 40)]
    keeping.keys = (KEY, STRANGE_KEY)
    assert list(prune(keeping).deleted) == signed_before[:1]
    keeping.keys = (KEY,)
    keeping.add(id_of(39))
    keeping.add(id_of(38))
    keeping.add(id_of(37))
    assert list(prune(keeping, dry_run=True).deleted) != []


def test_too_many_forged_backups_stop_every_deletion_after_a_bounded_number_of_looks(
    s3_faults: FaultProxy, bucket: str
):
    keeping = keeping_at(bucket, s3_faults)
    keeping.claim()
    fill(keeping, (60, 50, 40))
    for number in range(MOST_DISTRUSTED + 15):
        backup_id = id_of(2, 100 + number)
        for suffix in (MANIFEST, DECODED):
            keeping.store.put(keeping.folder(backup_id) + suffix, b"{}")
    s3_faults.requests.clear()
    outcome = prune(keeping)
    assert outcome.deleted == ()
    assert "look at them first" in texts(outcome, "error")
    assert s3_faults.count("GET", MANIFEST) == MOST_DISTRUSTED + 1
    keeping.close()


NEIGHBOURS = ("prod-eu", "prod/eu", "prod/app", "prod/evidence", "pro", "prod/app/20260101T020000Z-7f3a91c2")


@pytest.mark.parametrize("other_prefix", NEIGHBOURS)
def test_two_environments_in_one_bucket_never_touch_each_other(s3_server: S3Server, bucket: str, other_prefix: str):
    one = keeping_at(bucket, s3_server, name="prod", prefix="prod")
    other = keeping_at(bucket, s3_server, name="other", prefix=other_prefix)
    one.claim()
    fill(one, (50, 45, 2, 1))
    mine = one.keys_in_bucket()
    other.claim()
    fill(other, (50, 45, 2, 1))
    everything = one.keys_in_bucket()
    prune(one)
    gone = everything - one.keys_in_bucket()
    assert len(gone) == 8
    assert gone <= mine
    prune(other)
    gone_then = everything - gone - one.keys_in_bucket()
    assert len(gone_then) == 8
    assert not gone_then & mine
    for keeping in (one, other):
        keeping.close()


def test_the_facts_of_a_report_can_be_signed(keeping: Keeping):
    facts = prune(keeping, dry_run=True).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert all(isinstance(value, int) for value in facts.values())
