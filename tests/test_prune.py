"""Retention carried out on a real S3 API: what goes, what stays, in which order, and what it costs."""

import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment import Retention
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.keys import MANIFEST, owner_key
from core.retention import RetentionOutcome
from core.segments import segment_key
from tasks.catalogue import read_catalogue
from tasks.object_store import Deletion
from tasks.prune import apply_retention
from tasks.trust import MOST_DISTRUSTED
from tests.fix_keeping import DATA, DECODED, KEY, PROVEN, STRANGE_KEY, Keeping, id_of, keeping_at
from tests.fix_object_store import FaultProxy, S3Server


def prune(
    keeping: Keeping, *, dry_run: bool = False, current: str | None = None, now: datetime | None = None
) -> RetentionOutcome:
    return apply_retention(
        keeping.store,
        keeping.environment,
        keeping.database,
        keeping.keys,
        now or datetime.now(UTC),
        dry_run=dry_run,
        current_backup_id=current,
    )


def ids_left(keeping: Keeping) -> list[str]:
    return [entry.backup_id for entry in read_catalogue(keeping.store, keeping.environment, "app").backups]


def texts(outcome: RetentionOutcome, severity: str) -> str:
    return " | ".join(finding.text for finding in outcome.findings if finding.severity == severity)


def fill(keeping: Keeping, ages: tuple[float, ...], state: str = "decoded") -> list[str]:
    return [keeping.add(id_of(age, number), state) for number, age in enumerate(ages)]


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


def test_the_number_of_requests_depends_on_the_policy_not_on_the_number_of_backups(s3_faults: FaultProxy, bucket: str):
    keeping = keeping_at(bucket, s3_faults)
    keeping.claim()
    seen = []
    for number in (4, 16):
        for age in range(number):
            keeping.store.put(keeping.folder(id_of(100 + age, number)) + MANIFEST, b"never read")
            keeping.store.put(keeping.folder(id_of(100 + age, number)) + DECODED, b"never read")
        for age in (2, 1):
            keeping.add(id_of(age, number))
        s3_faults.requests.clear()
        assert len(prune(keeping).deleted) == number
        seen.append(len(s3_faults.requests))
    # owner, clock, uploads, list, two backups of two objects each, two deletions
    assert seen == [10, 10]
    keeping.close()


def test_remains_of_unfinished_backups_are_swept_when_they_are_old_enough(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    fill(keeping, (2, 1))
    stale, fresh, current = id_of(3, 77), id_of(0.5, 77), id_of(0, 77)
    for backup_id in (stale, fresh, current):
        keeping.put_data(backup_id)
    # Nothing is as old as its id says: the objects were written just now, so a run may still be at it.
    assert prune(keeping).orphans == ()
    aged(keeping, monkeypatch, hours=25)
    outcome = prune(keeping)
    assert outcome.orphans == (stale,)
    assert outcome.deleted_objects == 2
    left = keeping.keys_in_bucket()
    assert keeping.folder(fresh) + DATA in left
    assert keeping.folder(current) + DATA in left
    assert keeping.folder(stale) + DATA not in left


def aged(keeping: Keeping, monkeypatch: pytest.MonkeyPatch, *, hours: float) -> None:
    """Have listings tell that everything was written so many hours before it was (S3 sets these times itself)."""
    real_list, real_uploads = keeping.store.list, keeping.store.list_uploads
    shift = timedelta(hours=hours)

    def shifted_list(prefix: str, *, start_after: str = "") -> Iterator[Any]:
        for item in real_list(prefix, start_after=start_after):
            yield type(item)(item.key, item.size_bytes, item.modified - shift)

    def shifted_uploads(prefix: str) -> list[Any]:
        return [type(item)(item.key, item.upload_id, item.initiated - shift) for item in real_uploads(prefix)]

    monkeypatch.setattr(keeping.store, "list", shifted_list)
    monkeypatch.setattr(keeping.store, "list_uploads", shifted_uploads)


def test_the_remains_of_a_pinned_or_the_current_backup_are_not_swept(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    fill(keeping, (5, 4))
    pinned = id_of(3, 77)
    keeping.put_data(pinned)
    retention = Retention(minimum_keep=2, pins=(pinned, "20200101T000000Z-00000000"))
    keeping.environment = keeping.environment.model_copy(update={"retention": retention})
    aged(keeping, monkeypatch, hours=25)
    outcome = prune(keeping)
    assert outcome.orphans == ()
    assert "20200101T000000Z-00000000 is no backup" in texts(outcome, "note")


def begin_upload(keeping: Keeping, key: str) -> None:
    keeping.store.client.create_multipart_upload(Bucket=keeping.store.bucket, Key=key)


def test_unfinished_uploads_of_ours_are_aborted_and_no_others(keeping: Keeping, monkeypatch: pytest.MonkeyPatch):
    current, before, later = id_of(0.2, 1), id_of(0.3, 2), id_of(0.1, 3)
    keeping.add(current)
    kept = [
        keeping.folder(current) + DATA,
        keeping.folder(later) + DATA,  # a run that began after this one may be at it
        "local/app/somebody/elses.bin",
        f"local-eu/app/{before}/{DATA}",
        f"local/app-eu/{before}/{DATA}",
    ]
    for key in (*kept, keeping.folder(before) + DATA):
        begin_upload(keeping, key)
    assert prune(keeping, current=current, dry_run=True).aborted_uploads == 1
    assert prune(keeping).aborted_uploads == 0  # not in a run, and all of them young
    assert prune(keeping, current=current).aborted_uploads == 1
    assert sorted(upload.key for upload in keeping.store.list_uploads("")) == sorted(kept)
    aged(keeping, monkeypatch, hours=25)
    assert prune(keeping).aborted_uploads == 0  # initiated long ago, but the snapshots are of today


def test_an_upload_of_the_current_backup_is_left_however_long_the_backup_takes(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch
):
    current = keeping.add(id_of(2))
    begin_upload(keeping, keeping.folder(current) + DATA)
    aged(keeping, monkeypatch, hours=49)
    assert prune(keeping, current=current).aborted_uploads == 0
    assert prune(keeping).aborted_uploads == 1


def test_what_is_not_ours_is_left_alone_and_counted(keeping: Keeping):
    old = keeping.add(id_of(40))
    fill(keeping, (2, 1))
    foreign = {"local/app/readme.txt", "local/app/zzz/manifest.json", keeping.folder(old) + "notes.txt"}
    for key in foreign:
        keeping.store.put(key, b"mine")
    outcome = prune(keeping)
    assert outcome.deleted == (old,)
    assert foreign <= keeping.keys_in_bucket()
    assert outcome.foreign_objects == 3
    assert "3 objects in the folder are not nightshift's" in texts(outcome, "note")


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


@dataclass(frozen=True)
class Listed:
    key: str
    size_bytes: int
    modified: datetime


class BigStore:
    """The store's interface over a bucket of many backups, made up while listed; it counts what is asked."""

    bucket = "big"

    def __init__(self, real: Keeping, backups: int) -> None:
        self.real, self.backups = real, backups
        self.deleted_keys = 0

    def list(self, prefix: str) -> Iterator[Listed]:
        now = datetime.now(UTC)
        for number in range(self.backups):
            backup_id = id_of(400 - number / self.backups, number, now)
            for suffix in (DATA, "globals/00000.zst", MANIFEST, DECODED):
                yield Listed(f"{prefix}{backup_id}/{suffix}", 1, now)
        yield from self.real.store.list(prefix)

    def delete(self, keys: Iterator[str]) -> Deletion:
        count = sum(1 for _ in keys)
        self.deleted_keys += count
        return Deletion(deleted=count)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real.store, name)


def peak_bytes(keeping: Keeping, backups: int) -> int:
    store: Any = BigStore(keeping, backups)
    tracemalloc.start()
    try:
        outcome = apply_retention(
            store, keeping.environment, "app", (KEY,), datetime.now(UTC), dry_run=False, current_backup_id=None
        )
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(outcome.deleted) == backups
    assert store.deleted_keys == 4 * backups
    return peak


def test_memory_grows_by_less_than_450_bytes_a_backup(keeping: Keeping):
    fill(keeping, (2, 1))
    peak_bytes(keeping, 1)  # what is loaded once
    assert (peak_bytes(keeping, 4000) - peak_bytes(keeping, 1000)) / 3000 <= 450


def test_the_facts_of_a_report_can_be_signed(keeping: Keeping):
    facts = prune(keeping, dry_run=True).facts()
    assert json.loads(json.dumps(facts)) == facts
    assert all(isinstance(value, int) for value in facts.values())


@pytest.mark.parametrize("state", ["decoded", "proven"])
def test_a_sweep_days_later_leaves_the_data_of_a_backup_whose_manifest_somebody_removed(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch, state: str
):
    robbed, unfinished = keeping.add(id_of(5, 1), state), id_of(5, 2)
    keeping.put_data(unfinished)
    keeping.store.delete([keeping.folder(robbed) + MANIFEST])
    fill(keeping, (1, 0))
    outcome = prune_later(keeping, monkeypatch, days=1.1)
    # The sweep did come by: what never had a manifest went.
    assert outcome.orphans == (unfinished,)
    assert keeping.folder(robbed) + DATA in keeping.keys_in_bucket()
    assert f"{robbed} was decoded once and has no manifest any more" in texts(outcome, "error")
    # Past the retention it is what a retention that was killed may have left, and nothing that would be kept.
    assert prune_later(keeping, monkeypatch, days=26).orphans == (robbed,)
    assert not any(robbed in key for key in keeping.keys_in_bucket())


def prune_later(keeping: Keeping, monkeypatch: pytest.MonkeyPatch, *, days: float) -> RetentionOutcome:
    """Apply the retention so many days from now, by the worker's clock and by S3's."""
    later = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr(keeping.store, "server_time", lambda: later)
    return prune(keeping, now=later)


def test_a_backup_whose_data_is_gone_is_told_of_though_nothing_is_to_be_deleted(keeping: Keeping):
    keeping.claim()
    gutted, mine = keeping.add(id_of(2), "decoded"), keeping.add(id_of(0), "decoded")
    keeping.store.delete([keeping.folder(gutted) + DATA])
    outcome = apply_retention(
        keeping.store,
        keeping.environment,
        "app",
        keeping.keys,
        datetime.now(UTC),
        dry_run=False,
        current_backup_id=mine,
    )
    assert any(finding.severity == "error" and gutted in finding.text for finding in outcome.findings)
