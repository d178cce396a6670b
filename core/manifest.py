"""The manifest: what one backup is and what it holds. Written last; immutable, so complete from the start. No manifest, no backup.

Sizes are bytes, times are UTC, digests and checksums lower-case hexadecimal. Everything that a later restore is compared with stands here.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Size = Annotated[int, Field(ge=0)]


class Record(BaseModel):
    """A frozen record; an unknown field is an error, not something to pass over."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Segment(Record):
    """One S3 object of a stored stream. `key` is relative to the backup's folder."""

    key: str
    stored_bytes: Size
    stored_sha256: Sha256


class StoredPart(Record):
    """One stream as stored: its segments, concatenated in order, are one zstd frame with a content checksum.

    `name` is what the plain stream is called: `dump.pgdump` (custom format), `toc.dat`, `4242.dat` (directory format), `globals.sql`.
    """

    name: str
    segments: tuple[Segment, ...]
    stored_bytes: Size
    stored_sha256: Sha256
    plain_bytes: Size
    plain_sha256: Sha256


class Archive(Record):
    """The dump. `custom`: one part. `directory`: one part per file of pg_dump's directory format."""

    format: Literal["custom", "directory"]
    compression: Literal["zstd"]
    compression_level: int
    parts: tuple[StoredPart, ...]


class Server(Record):
    """The server that was dumped. `timeline` and `lsn` are the write-ahead log's position when the snapshot was taken."""

    version: str
    version_number: int
    system_identifier: str
    database_oid: int
    database_name: str
    host: str
    port: int
    timeline: int
    lsn: str
    in_recovery: bool
    settings: dict[str, str] = {}


class ToolVersions(Record):
    """What made the backup."""

    nightshift: str
    pg_dump: str
    python: str


class Column(Record):
    """A column and how its values enter the digest: `native` (the type's own hash) or `text` (`column::text COLLATE "C"`)."""

    name: str
    type: str
    hashed_as: Literal["native", "text"]


class Table(Record):
    """A relation with TABLE DATA in the dump (leaf partitions and unlogged tables too), as seen in the snapshot.

    `rows` is None with mode `off`; `digest` and `digest_sql` are None unless the mode is `full`. `condition` is an extension table's extcondition.

    `routed_through` is a partitioned table, as (schema, name): pg_dump then writes `COPY` of that table instead of this one, and a restore may put the rows into other
    partitions, so rows and digests are compared as sums over all tables with the same value (core.digest_comparison).
    """

    oid: int
    schema_name: str
    name: str
    owner: str
    persistence: Literal["permanent", "unlogged"]
    columns: tuple[Column, ...]
    mode: Literal["full", "counts", "off"]
    condition: str = ""
    routed_through: tuple[str, str] | None = None
    rows: int | None
    digest: str | None
    digest_sql: str | None
    size_bytes: Size
    counters: dict[str, int]

    @property
    def qualified(self) -> str:
        """Schema and name with a dot between, for people; not quoted for SQL."""
        return f"{self.schema_name}.{self.name}"


class Sequence(Record):
    """Sequences are not transactional: a restored one must be at or beyond this value, in its direction."""

    schema_name: str
    name: str
    last_value: int
    is_called: bool
    increment: int


class Extension(Record):
    """An installed extension."""

    name: str
    version: str
    schema_name: str


class Collation(Record):
    """A collation in use and the version of its provider's data."""

    schema_name: str
    name: str
    provider: str
    deterministic: bool
    version: str | None


class LargeObjects(Record):
    """All large objects: how many, their bytes, and the digest over (oid, content) in chunks; digest None when digests are not `full`."""

    count: int
    content_bytes: Size
    digest: str | None
    digest_sql: str | None


class Role(Record):
    """A role that owns or is granted something in this database, or belongs to one that does."""

    name: str
    login: bool
    superuser: bool


class DatabaseSetting(Record):
    """One `ALTER DATABASE … SET` or `ALTER ROLE … IN DATABASE … SET` (role is empty for all roles)."""

    role: str
    name: str
    value: str


class DatabaseProperties(Record):
    """What `CREATE DATABASE` and the statements after it must say again. `acl` is pg_database.datacl as text items, None for the default."""

    owner: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    icu_rules: str | None
    collation_version: str | None
    connection_limit: int
    is_template: bool
    allow_connections: bool
    tablespace: str
    acl: tuple[str, ...] | None
    comment: str | None
    settings: tuple[DatabaseSetting, ...]


class Statistics(Record):
    """When pg_stat_all_tables' counters were last reset (None when never), to tell later how much was written since."""

    stats_reset: AwareDatetime | None


class Omission(Record):
    """Something that is in the database and not in this backup, and why."""

    kind: str
    name: str
    why: str


class Coverage(Record):
    """Catalogue objects against the archive's table of contents, matched by (catalogue oid, object oid), and roles against the globals."""

    expected: int
    listed: int
    missing: tuple[str, ...]


class Alike(Record):
    """Objects of which the same is said, by name. Statements are plain text that no major prints otherwise (core.object_facts)."""

    statements: tuple[str, ...]
    names: tuple[str, ...]


class ObjectGroup(Record):
    """What is said of the objects of one kind in one schema (empty: in none). `sha256` is over all of it; `alike` lists it, None where the objects are too many."""

    about: Literal["owner and privileges", "state", "comments", "details"]
    kind: str
    schema_name: str
    count: Size
    sha256: Sha256
    alike: tuple[Alike, ...] | None


class ObjectFacts(Record):
    """What a restore on any major must bring back beside data and definitions' texts: owners, privileges, states, comments of all dumped objects.

    `form` counts how statements are made: only those of one form can be compared. `not_enforced` are foreign keys whose triggers are disabled, which a dump does not
    say; `invalid_indexes` are those that PostgreSQL does not use (only partitioned tables' ones are dumped). `details` are further groups of the same form, None in
    backups from before they were recorded.
    """

    form: int
    groups: tuple[ObjectGroup, ...]
    not_validated: tuple[str, ...]
    not_enforced: tuple[str, ...]
    invalid_indexes: tuple[str, ...]
    details: tuple[ObjectGroup, ...] | None = None


class Manifest(Record):
    """A backup. States (decoded, proven) are objects of their own beside it."""

    format: Literal["nightshift-backup/1"] = "nightshift-backup/1"
    backup_id: str
    environment: str
    database: str
    snapshot_time: AwareDatetime
    started: AwareDatetime
    finished: AwareDatetime
    tools: ToolVersions
    server: Server
    archive: Archive
    globals: StoredPart
    tables: tuple[Table, ...]
    sequences: tuple[Sequence, ...]
    extensions: tuple[Extension, ...]
    collations: tuple[Collation, ...]
    large_objects: LargeObjects
    roles: tuple[Role, ...]
    properties: DatabaseProperties
    statistics: Statistics
    schema_fingerprint: Sha256
    coverage: Coverage
    not_in_backup: tuple[Omission, ...]
    # None: made before these were recorded.
    objects: ObjectFacts | None = None
    # What pg_dump and pg_dumpall said on stderr although they succeeded, a line each.
    warnings: tuple[str, ...] = ()

    @property
    def stored_bytes(self) -> int:
        """Bytes in S3: the dump and the globals."""
        return sum(part.stored_bytes for part in self.archive.parts) + self.globals.stored_bytes

    @property
    def plain_bytes(self) -> int:
        """Bytes before compression: the dump and the globals."""
        return sum(part.plain_bytes for part in self.archive.parts) + self.globals.plain_bytes


class Decoded(Record):
    """The state object of a backup that was read back from S3 and decoded to its end."""

    format: Literal["nightshift-decoded/1"] = "nightshift-decoded/1"
    backup_id: str
    manifest_sha256: Sha256
    decoded_at: datetime
    stored_bytes: Size
    plain_bytes: Size
    tables_counted: int
    rows_counted: int
