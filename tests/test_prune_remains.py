"""What unfinished backups leave and what somebody else left or took: swept, aborted, kept, told of."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment import Retention
from core.keys import MANIFEST
from core.retention import RetentionOutcome
from tests.fix_keeping import DATA, Keeping, fill, id_of, prune, texts


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
    assert "left alone: 3 objects in the folder that nightshift did not write" in texts(outcome, "note")


@pytest.mark.parametrize("state", ["decoded", "proven"])
def test_a_sweep_days_later_leaves_the_data_of_a_backup_whose_manifest_somebody_removed(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch, state: str
):
    robbed, unfinished = keeping.add(id_of(5, 1), state), id_of(5, 2)
    keeping.put_data(unfinished)
    keeping.store.delete([keeping.folder(robbed) + MANIFEST])
    fill(keeping, (1, 0), state)
    outcome = prune_later(keeping, monkeypatch, days=1.1)
    # The sweep did come by: what never had a manifest went.
    assert outcome.orphans == (unfinished,)
    assert keeping.folder(robbed) + DATA in keeping.keys_in_bucket()
    assert f"{robbed} was decoded once and has no manifest any more" in texts(outcome, "error")
    # Past the retention it is what a retention that was killed may have left, and nothing that would be kept.
    assert prune_later(keeping, monkeypatch, days=26).orphans == (robbed,)
    assert not any(robbed in key for key in keeping.keys_in_bucket())


@pytest.mark.parametrize("why", ["monthly", "newest proven", "minimum_keep", "pinned"])
def test_nor_of_one_that_would_be_kept_whatever_its_age(
    keeping: Keeping, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    robbed = keeping.add(id_of(70), "proven" if why == "newest proven" else "decoded")
    left = keeping.add(id_of(69.9), "decoded") if why != "monthly" else keeping.add(id_of(70.1), "decoded")
    retention = Retention(
        minimum_keep=4 if why == "minimum_keep" else 2,
        keep_monthly=4 if why == "monthly" else 0,
        pins=(robbed,) if why == "pinned" else (),
    )
    keeping.environment = keeping.environment.model_copy(update={"retention": retention})
    fill(keeping, (1, 0))
    keeping.store.delete([keeping.folder(robbed) + MANIFEST])
    outcome = prune_later(keeping, monkeypatch, days=1.1)
    assert outcome.orphans == ()
    assert keeping.folder(robbed) + DATA in keeping.keys_in_bucket()
    assert f"{robbed} was decoded once and has no manifest any more" in texts(outcome, "error")
    assert (left in outcome.deleted) is (why in {"newest proven", "pinned"})


def prune_later(keeping: Keeping, monkeypatch: pytest.MonkeyPatch, *, days: float) -> RetentionOutcome:
    """Apply the retention so many days from now, by the worker's clock and by S3's."""
    later = datetime.now(UTC) + timedelta(days=days)
    monkeypatch.setattr(keeping.store, "server_time", lambda: later)
    return prune(keeping, now=later)


def test_a_backup_whose_data_is_gone_is_told_of_though_nothing_is_to_be_deleted(keeping: Keeping):
    keeping.claim()
    gutted, mine = keeping.add(id_of(2), "decoded"), keeping.add(id_of(0), "decoded")
    keeping.store.delete([keeping.folder(gutted) + DATA])
    assert gutted in texts(prune(keeping, current=mine), "error")
