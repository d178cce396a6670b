"""What a database holds at the snapshot: the facts that go into the manifest, and what the archive is expected to list."""

import fnmatch
from collections.abc import Sequence
from typing import Literal

from core.environment_database import DigestMode, DigestRule
from core.manifest import (
    Collation,
    Column,
    DatabaseProperties,
    Extension,
    ObjectFacts,
    Omission,
    Record,
    Role,
    Sha256,
    Size,
    Statistics,
    Table,
)
from core.manifest import (
    Sequence as SequenceState,
)


class TableDraft(Record):
    """A relation with TABLE DATA in the dump, before it was counted. `digest_sql` is None unless the mode is `full`."""

    oid: int
    schema_name: str
    name: str
    owner: str
    persistence: Literal["permanent", "unlogged"]
    columns: tuple[Column, ...]
    mode: DigestMode
    condition: str = ""
    routed_through: tuple[str, str] | None = None
    digest_sql: str | None
    size_bytes: Size
    counters: dict[str, int]

    @property
    def qualified(self) -> str:
        """Schema and name with a dot between, for people; not quoted for SQL."""
        return f"{self.schema_name}.{self.name}"

    def counted(self, rows: int | None, digest: str | None) -> Table:
        """Given what was counted (None where the mode does not ask for it), return the manifest's record."""
        return Table(**dict(self), rows=rows, digest=digest)


class ExpectedEntry(Record):
    """Something that the archive must list by oid. `catalogue_oid` is the catalogue's own oid (pg_class: 1259); `name` is for people.

    Data has no catalogue (0), only its table's oid; there `kind` is the archive's word in lower case (`table data`, `row security`).
    """

    catalogue_oid: int
    oid: int
    kind: str
    name: str


class ExpectedTag(Record):
    """Something that the archive lists without an oid, by its word (`ACL`, `COMMENT`, `SEQUENCE SET`), schema (`-`: none) and tag."""

    kind: str
    schema_name: str
    tag: str


Expected = ExpectedEntry | ExpectedTag


class Inventory(Record):
    """Everything about one database at one snapshot that the manifest and the checks need."""

    tables: tuple[TableDraft, ...]
    sequences: tuple[SequenceState, ...]
    extensions: tuple[Extension, ...]
    collations: tuple[Collation, ...]
    large_object_count: Size
    roles: tuple[Role, ...]
    properties: DatabaseProperties
    statistics: Statistics
    schema_fingerprint: Sha256
    expected: tuple[Expected, ...]
    not_in_backup: tuple[Omission, ...]
    objects: ObjectFacts
    exclude_schemas: tuple[str, ...]
    estimated_bytes: Size


def digest_mode(qualified: str, default: DigestMode, rules: Sequence[DigestRule]) -> DigestMode:
    """Given schema.table, the database's mode and its rules, return the mode of this table: the first rule that matches counts."""
    for rule in rules:
        if fnmatch.fnmatchcase(qualified, _star_and_question_mark_only(rule.tables)):
            return rule.mode
    return default


def _star_and_question_mark_only(pattern: str) -> str:
    # fnmatch would read [abc] as a choice of characters; table names may hold brackets.
    return pattern.replace("[", "[[]")


def schemas_to_exclude(present: Sequence[str], include: Sequence[str], exclude: Sequence[str]) -> tuple[str, ...]:
    """Given the database's own schemas and the environment's two lists, return the schemas to leave out, sorted, by exact name.

    A list of schemas to include becomes the exclusion of all others: `pg_dump --schema` would leave out extensions and large objects too.
    """
    unwanted = set(exclude)
    return tuple(sorted(name for name in present if name in unwanted or (include and name not in include)))
