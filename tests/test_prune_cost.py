"""What retention costs: requests by the policy alone, memory by the backup."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from core.keys import MANIFEST
from tasks.object_store import Deletion
from tasks.prune import apply_retention
from tests.fix_keeping import (
    DATA,
    DECODED,
    KEY,
    Keeping,
    fill,
    id_of,
    keeping_at,
    prune,
)
from tests.fix_object_store import FaultProxy


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
