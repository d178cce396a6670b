"""What an environment is: the records that one TOML file of deployments/environments/ fills. Reading it is tasks.environments' business.

Every field's description is an operator's documentation: docs/environments.md and `nightshift check` print it. A secret never stands in the file, only
a reference to it (core.secret_reference). Durations and sizes carry their unit in the name.
"""

import difflib
import functools
import re
from typing import Literal
from zoneinfo import ZoneInfo, available_timezones

from pydantic import Field, field_validator, model_validator

from core.environment_database import Database
from core.environment_release import Release
from core.environment_restore import AppState, BackupCopy, Drill, Restore, RestoreServer
from core.environment_watch import Watch
from core.environment_webhook import Webhook
from core.keys import RESERVED_DATABASE_NAMES
from core.secret_reference import SecretReference
from core.section import Name, OptionalSecret, OptionalText, Section


class Store(Section):
    """Where backups lie: one bucket, one prefix."""

    bucket: str = Field(min_length=3, max_length=63, description="S3 bucket. Must exist; nightshift makes none.")
    prefix: str = Field(
        "", description="Folder in the bucket, without slashes at its ends. Empty: the environment's name."
    )
    region: str = Field("us-east-1", description="AWS region of the bucket.")
    endpoint_url: OptionalText = Field(
        None, description="Address of an S3 service other than AWS, e.g. http://127.0.0.1:9000. Empty: AWS."
    )
    access_key_id: OptionalSecret = Field(
        None,
        description="Secret reference. Empty: boto3's default chain (role of the machine or Pod, profile, AWS_… variables).",
    )
    secret_access_key: OptionalSecret = Field(None, description="Secret reference; goes with access_key_id.")
    credentials_block: OptionalText = Field(
        None, description="Name of a Prefect AwsCredentials block to use instead of keys."
    )
    encryption: Literal["bucket-default", "sse-s3", "sse-kms"] = Field(
        "bucket-default", description="Server-side encryption asked for at each write."
    )
    kms_key_id: OptionalText = Field(None, description="KMS key for sse-kms. Empty: the account's aws/s3 key.")
    storage_class: Literal["STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"] = Field(
        "STANDARD", description="Storage class of the dump's objects; only classes that can be read at once."
    )
    object_lock_days: int = Field(
        0, ge=0, le=3650, description="Lock each object of a backup (compliance mode) for so many days. 0: no lock."
    )

    @field_validator("bucket")
    @classmethod
    def _bucket_name_only(cls, bucket: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", bucket):
            raise ValueError("the bucket's name only, without s3:// and without folders (those go into prefix)")
        return bucket

    @field_validator("endpoint_url")
    @classmethod
    def _plain_address(cls, endpoint_url: str | None) -> str | None:
        if endpoint_url is not None and not re.fullmatch(r"https?://[^\s@?#]+", endpoint_url):
            raise ValueError("an address begins with https:// or http:// and holds no user, password or query")
        return endpoint_url

    @field_validator("prefix")
    @classmethod
    def _plain_prefix(cls, prefix: str) -> str:
        if prefix and not re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*", prefix):
            raise ValueError("a prefix is made of letters, digits, '.', '_', '-' and single '/' between them")
        return prefix

    @model_validator(mode="after")
    def _credentials_agree(self) -> "Store":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key go together")
        if self.credentials_block and self.access_key_id:
            raise ValueError("credentials_block and access_key_id exclude each other")
        if self.kms_key_id and self.encryption != "sse-kms":
            raise ValueError("kms_key_id goes with encryption = 'sse-kms'")
        return self


class Signing(Section):
    """The key that signs manifests, states and evidence. Never in the bucket: who can write the bucket must not be able to forge a backup."""

    algorithm: Literal["hmac-sha256", "ed25519"] = Field(
        "hmac-sha256", description="hmac-sha256: one shared key. ed25519: PEM private key."
    )
    key: SecretReference = Field(
        description="Secret reference: at least 32 characters for hmac-sha256, a PEM private key for ed25519."
    )
    previous_keys: tuple[SecretReference, ...] = Field(
        (), description="Keys that signed older backups; still accepted when reading."
    )


class Retention(Section):
    """Which backups are kept. The newest proven one always is (while none is proven: the newest decoded one)."""

    days: int = Field(30, ge=1, le=36500, description="Keep every backup younger than this, by snapshot time.")
    minimum_keep: int = Field(7, ge=1, le=1000, description="Never leave fewer backups than this, whatever their age.")
    keep_daily: int = Field(
        0,
        ge=0,
        le=3660,
        description="Grandfather-father-son: also the newest backup of each of the last N days that have one.",
    )
    keep_weekly: int = Field(0, ge=0, le=1040, description="… of each of the last N ISO weeks that have one.")
    keep_monthly: int = Field(0, ge=0, le=1200, description="… of each of the last N months that have one.")
    pins: tuple[str, ...] = Field((), description="Backup ids that are never deleted.")
    orphan_hours: int = Field(
        24, ge=24, le=8760, description="Remains of unfinished backups are swept when older than this."
    )


class Objectives(Section):
    """What the business asks for. Two ages, two objectives: there is no silent default between decoded and proven."""

    recovery_point_hours: int = Field(26, ge=1, le=8760, description="The newest decoded backup must not be older.")
    restore_minutes: int = Field(
        0,
        ge=0,
        le=100_000,
        description="Recovery time: a drill's restore, from request to first verified query, must not take longer. 0: not asked for.",
    )
    proof_age_hours: int = Field(
        50,
        ge=0,
        le=87600,
        description="The newest proven backup (restored by a drill) must not be older. 0: not asked for, as long as there are no drills.",
    )


class Backups(Section):
    """How the nightly run goes about it."""

    parallel: int = Field(2, ge=1, le=16, description="Databases backed up side by side.")
    part_mib: int = Field(16, ge=5, le=32, description="Size of a multipart upload's parts; memory use grows with it.")
    segment_gib: int = Field(
        256,
        ge=1,
        le=256,
        description="A stored stream goes on in a further object past this size (and before 10,000 parts).",
    )


@functools.cache
def _timezones() -> frozenset[str]:
    """Read once: it looks into every file of the system's zone database, and each step of a run loads its environment anew."""
    return frozenset(available_timezones())


class Environment(Section):
    """One environment: its databases, its bucket, its rules."""

    name: Name = Field(description="Taken from the file's name.")
    timezone: str = Field(
        "UTC", description="IANA time zone of the schedules and of days, weeks and months in the retention."
    )
    store: Store = Field(description="Where backups lie.")
    signing: Signing = Field(description="The key that signs what is written.")
    databases: dict[Name, Database] = Field(min_length=1, description="One table per database: [databases.NAME].")
    retention: Retention = Field(default_factory=Retention, description="Which backups are kept.")
    objectives: Objectives = Field(default_factory=Objectives, description="How old the newest backups may be.")
    backups: Backups = Field(default_factory=Backups, description="How the nightly run goes about it.")

    servers: dict[Name, RestoreServer] = Field(
        default_factory=dict, description="Where restores may make databases: [servers.NAME]."
    )
    restore: Restore = Field(default_factory=Restore, description="How restores go about it.")
    drill: Drill = Field(default_factory=Drill, description="The daily rehearsal of a restore.")
    copy_store: BackupCopy | None = Field(None, description="A copy of the bucket in another region.")
    app_state: AppState | None = Field(None, description="Application state, backed up by Velero.")
    release: Release | None = Field(None, description="How a new version gets out.")
    watch: Watch | None = Field(None, description="The day after a release. Empty: nobody watches.")
    webhook: Webhook | None = Field(None, description="What GitHub may start. Empty: nothing.")

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, timezone: str) -> str:
        if timezone not in _timezones():
            near = difflib.get_close_matches(timezone, _timezones(), n=1)
            hint = f"did you mean {near[0]}?" if near else "such as Europe/Berlin, America/New_York, UTC"
            raise ValueError(f"{timezone!r} is not an IANA time zone; {hint}")
        return timezone

    @field_validator("databases")
    @classmethod
    def _free_names(cls, databases: dict[str, Database]) -> dict[str, Database]:
        taken = sorted(RESERVED_DATABASE_NAMES & databases.keys())
        if taken:
            raise ValueError(
                f"[databases.{taken[0]}]: this name is a folder of nightshift's own in the bucket; choose another"
            )
        return databases

    @model_validator(mode="after")
    def _names_agree(self) -> "Environment":
        if self.drill.server is not None and self.drill.server not in self.servers:
            known = ", ".join(self.servers) or "there are none"
            raise ValueError(f"drill.server = {self.drill.server!r} is not in [servers]: {known}")
        for invariant in self.drill.invariants:
            if invariant.database not in self.databases:
                raise ValueError(
                    f"drill.invariants: {invariant.name!r} asks database {invariant.database!r}, which is not in [databases]"
                )
        if self.watch is not None and self.release is None:
            raise ValueError("[watch] watches releases, and there is no [release]")
        if (
            self.release is not None
            and self.release.migration is not None
            and self.release.migration.database not in self.databases
        ):
            raise ValueError(
                f"release.migration.database = {self.release.migration.database!r} is not in [databases]: {', '.join(self.databases)}"
            )
        return self

    @property
    def zone(self) -> ZoneInfo:
        """The time zone as an object."""
        return ZoneInfo(self.timezone)

    def reading_the_copy(self) -> "Environment":
        """The environment with the bucket's copy in another region as its bucket. Raise ValueError when it has none."""
        if self.copy_store is None:
            raise ValueError(f"environment {self.name} has no [copy_store]")
        given = self.copy_store.model_dump(exclude_none=True)
        # Without an address of its own it is on AWS, wherever the bucket is; else a drill of the copy might read the bucket itself, and find it whole.
        address = {"endpoint_url": self.copy_store.endpoint_url}
        # The prefix is the bucket's own: a copy made by replication has the same keys.
        store = self.store.model_copy(update={**given, **address, "prefix": self.prefix})
        return self.model_copy(update={"store": store})

    @property
    def prefix(self) -> str:
        """The folder in the bucket that is this environment's, without slashes at its ends."""
        return self.store.prefix or self.name
