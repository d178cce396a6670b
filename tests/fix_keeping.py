"""Backups as they lie in a bucket, without a database: small manifests, states and data, signed with the environment's key."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.backup_id import make_backup_id, snapshot_time_of
from core.canonical import canonical_bytes
from core.environment import Environment, Retention
from core.keys import DECODED, PROVEN, backup_folder
from core.manifest import (
    Archive,
    Coverage,
    Decoded,
    LargeObjects,
    Manifest,
    Segment,
    Server,
    StoredPart,
    Table,
    ToolVersions,
)
from core.retention import RetentionOutcome
from core.signature import SigningKey, seal
from tasks.catalogue import claim_folder, commit_manifest, read_catalogue, read_manifest, write_decoded
from tasks.object_store import ObjectStore
from tasks.prune import apply_retention
from tests.fix_object_store import FaultProxy, S3Server, environment_for
from tests.manifest_facts import NOTHING_ELSE, SOME_SHA256

KEY = SigningKey("hmac-sha256", "the key that signs in these tests, long enough")
STRANGE_KEY = SigningKey("hmac-sha256", "a key that nobody in these tests knows of")
DATA = "dump/00000.zst"


def id_of(days_ago: float, number: int = 0, now: datetime | None = None) -> str:
    """The id of a backup whose snapshot was taken so many days ago."""
    return make_backup_id((now or datetime.now(UTC)) - timedelta(days=days_ago), number.to_bytes(4, "big"))


def sample_manifest(backup_id: str, environment: str = "local", database: str = "app") -> Manifest:
    """A manifest as small as the model allows: no tables."""
    time = snapshot_time_of(backup_id)
    part = StoredPart(
        name="dump.pgdump",
        segments=(Segment(key=DATA, stored_bytes=4, stored_sha256=SOME_SHA256),),
        stored_bytes=4,
        stored_sha256=SOME_SHA256,
        plain_bytes=16,
        plain_sha256=SOME_SHA256,
    )
    return Manifest(
        backup_id=backup_id,
        environment=environment,
        database=database,
        snapshot_time=time,
        started=time,
        finished=time + timedelta(minutes=3),
        tools=ToolVersions(nightshift="0.1.0", pg_dump="16.4", python="3.11"),
        server=Server(
            version="16.4",
            version_number=160004,
            system_identifier="7",
            database_oid=5,
            database_name="app",
            host="127.0.0.1",
            port=5432,
            timeline=1,
            lsn="0/1",
            in_recovery=False,
        ),
        archive=Archive(format="custom", compression="zstd", compression_level=3, parts=(part,)),
        globals=part.model_copy(
            update={
                "name": "globals.sql",
                "segments": (part.segments[0].model_copy(update={"key": "globals/00000.zst"}),),
            }
        ),
        tables=(),
        large_objects=LargeObjects(count=0, content_bytes=0, digest=None, digest_sql=None),
        **NOTHING_ELSE,
    )


def sample_table(name: str, mode: str) -> Table:
    """An empty table of `public` that is compared in this mode."""
    full = mode == "full"
    fields = {
        "oid": 1,
        "schema_name": "public",
        "name": name,
        "owner": "app",
        "persistence": "permanent",
        "columns": (),
        "mode": mode,
    }
    counted = {
        "rows": None if mode == "off" else 0,
        "digest": "0" if full else None,
        "digest_sql": "SELECT 0, '0'" if full else None,
    }
    return Table.model_validate({**fields, **counted, "size_bytes": 0, "counters": {}})


@dataclass
class Keeping:
    """One environment's backups of one database in a real (moto) bucket."""

    store: ObjectStore
    environment: Environment
    database: str = "app"
    keys: Sequence[SigningKey] = field(default_factory=lambda: (KEY,))
    shares_client: bool = False

    def close(self) -> None:
        """Close the connections of a client of its own."""
        if not self.shares_client:
            self.store.client.close()

    def folder(self, backup_id: str) -> str:
        """The key of a backup's folder."""
        return backup_folder(self.environment.prefix, self.database, backup_id)

    def claim(self) -> None:
        """Claim the database's folder."""
        claim_folder(self.store, self.environment, self.database, self.keys[0], self.keys)

    def put_data(self, backup_id: str) -> None:
        """Write the data of a backup, without a manifest."""
        for suffix in (DATA, "globals/00000.zst"):
            self.store.put(self.folder(backup_id) + suffix, b"data")

    def add(
        self,
        backup_id: str,
        state: str = "decoded",
        *,
        key: SigningKey = KEY,
        tables: tuple[Table, ...] = (),
        lacks: tuple[str, ...] = (),
    ) -> str:
        """Write a backup in a state, signed with a key; return its id. `lacks`: what its database had and its dump has not."""
        self.put_data(backup_id)
        manifest = sample_manifest(backup_id, self.environment.name, self.database)
        manifest = manifest.model_copy(update={"tables": tables})
        if lacks:
            gap = Coverage(expected=len(lacks) + 1, listed=1, missing=lacks)
            manifest = manifest.model_copy(update={"coverage": gap})
        commit_manifest(self.store, self.environment, manifest, key)
        if state in ("decoded", "proven"):
            self.decode(backup_id, key=key)
        if state == "proven":
            self.put_state(backup_id, PROVEN, key=key)
        return backup_id

    def manifest_sha256(self, backup_id: str, key: SigningKey = KEY) -> str:
        """The SHA-256 of a backup's manifest as stored."""
        return read_manifest(self.store, self.environment, self.database, backup_id, (key,))[1]

    def decode(self, backup_id: str, *, key: SigningKey = KEY, sha256: str | None = None) -> None:
        """Write that a backup was decoded."""
        decoded = Decoded(
            backup_id=backup_id,
            manifest_sha256=sha256 or self.manifest_sha256(backup_id, key),
            decoded_at=datetime.now(UTC),
            stored_bytes=8,
            plain_bytes=32,
            tables_counted=0,
            rows_counted=0,
        )
        write_decoded(self.store, self.environment, self.database, decoded, key)

    def put_state(self, backup_id: str, state: str, *, key: SigningKey = KEY, **changes: Any) -> None:
        """Write a state object as a drill would, with some fields otherwise."""
        name = "proven" if state == PROVEN else "decoded"
        document = {
            "format": f"nightshift-{name}/1",
            "backup_id": backup_id,
            "manifest_sha256": self.manifest_sha256(backup_id, key),
        }
        self.store.put(self.folder(backup_id) + state, canonical_bytes(seal(document | changes, key)))

    def keys_in_bucket(self) -> set[str]:
        """Every key of the bucket."""
        return {item.key for item in self.store.list("")}


def keeping_at(
    bucket: str, server: S3Server | FaultProxy, *, name: str = "local", retention: Retention | None = None, **store: Any
) -> Keeping:
    """A Keeping of an environment of this name on a bucket; further arguments are fields of [store].

    Making a client takes longer than most of these tests, so those straight at the server share its client; the proxy gets one of nightshift's own.
    """
    environment = environment_for(bucket, server.endpoint, **store).model_copy(
        update={"name": name, "retention": retention or Retention(minimum_keep=2)}
    )
    if isinstance(server, S3Server):
        return Keeping(ObjectStore(environment, server.client), environment, shares_client=True)
    return Keeping(ObjectStore.open(environment), environment)


@pytest.fixture
def keeping(s3_server: S3Server, bucket: str) -> Keeping:
    """An environment `local` with database `app` whose folder is claimed; retention of 30 days, at least 2 kept."""
    made = keeping_at(bucket, s3_server)
    made.claim()
    return made


def prune(
    keeping: Keeping, *, dry_run: bool = False, current: str | None = None, now: datetime | None = None
) -> RetentionOutcome:
    """Apply the retention; `current` is the backup of the run that prunes."""
    return apply_retention(
        keeping.store,
        keeping.environment,
        keeping.database,
        keeping.keys,
        now or datetime.now(UTC),
        dry_run=dry_run,
        current_backup_id=current,
    )


def fill(keeping: Keeping, ages: tuple[float, ...], state: str = "decoded") -> list[str]:
    """Add a backup of each age, in days; return their ids."""
    return [keeping.add(id_of(age, number), state) for number, age in enumerate(ages)]


def ids_left(keeping: Keeping) -> list[str]:
    """The ids of the backups that are there."""
    return [entry.backup_id for entry in read_catalogue(keeping.store, keeping.environment, "app").backups]


def texts(outcome: RetentionOutcome, severity: str) -> str:
    """All findings of a severity."""
    return " | ".join(finding.text for finding in outcome.findings if finding.severity == severity)


__all__ = [
    "DATA",
    "DECODED",
    "KEY",
    "PROVEN",
    "STRANGE_KEY",
    "Keeping",
    "fill",
    "id_of",
    "ids_left",
    "keeping_at",
    "prune",
    "sample_manifest",
    "sample_table",
    "texts",
]
