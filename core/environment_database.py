"""The tables [databases.NAME]: one PostgreSQL database each, how it is reached and how it is backed up."""

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from core.section import OptionalSecret, OptionalText, Section

DigestMode = Literal["full", "counts", "off"]

TRANSACTION_POOLER_PORT = 6543


class DigestRule(Section):
    """Another digest mode for the tables that match."""

    tables: str = Field(description="Pattern over schema.table with * and ?, e.g. audit.*")
    mode: DigestMode = Field(description="full: count and content digest. counts: rows only. off: neither.")


class Database(Section):
    """One PostgreSQL database. A direct connection, not a transaction pooler."""

    host: str = Field(description="Host name or address; or the folder of a Unix socket.")
    port: int = Field(
        5432,
        ge=1,
        le=65535,
        description="Port of a direct or session-mode connection; Supabase's 6543 is a transaction pooler and refused.",
    )
    name: str = Field(min_length=1, max_length=63, description="Database name.")
    user: str = Field(
        min_length=1,
        max_length=63,
        description="Role to back up with: SELECT on all tables (pg_read_all_data), BYPASSRLS where row security is on.",
    )
    password: OptionalSecret = Field(
        None, description="Secret reference. Empty: no password (peer, certificate, IAM proxy)."
    )
    sslmode: Literal["disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="As libpq's sslmode."
    )
    sslrootcert: OptionalText = Field(None, description="Path of the CA file for verify-ca and verify-full.")
    include_schemas: tuple[str, ...] = Field(
        (), description="Only these schemas (exact names). Empty: all but exclude_schemas."
    )
    exclude_schemas: tuple[str, ...] = Field(
        (), description="Leave these out (exact names), e.g. Supabase's managed auth, storage, realtime."
    )
    digests: DigestMode = Field(
        "full", description="full: rows and content digest of every table. counts: rows only. off: neither."
    )
    digest_rules: tuple[DigestRule, ...] = Field(
        (), description="Exceptions by table pattern; the first that matches counts."
    )
    digest_sessions: int = Field(2, ge=1, le=16, description="Sessions that compute digests beside the dump.")
    jobs: int = Field(
        1,
        ge=1,
        le=16,
        description="Above 1: pg_dump's directory format with so many jobs, files uploaded as they are finished.",
    )
    spool_directory: OptionalText = Field(None, description="Local folder for jobs > 1. Empty: the temporary folder.")
    spool_reserve_mib: int = Field(
        1024, ge=16, description="jobs > 1: pg_dump is held while less than this is free on the spool's disk."
    )
    compression_level: int = Field(
        1,
        ge=1,
        le=19,
        description="zstd level; 1 stores about half of what gzip does, higher ones little less for much more time.",
    )
    lock_timeout_seconds: int = Field(
        60, ge=1, le=3600, description="How long to wait for table locks before giving up."
    )
    role_passwords: bool = Field(
        False,
        description="Include password hashes in the globals (needs a superuser; a restore of them is then possible).",
    )

    @field_validator("host")
    @classmethod
    def _host_only(cls, host: str) -> str:
        if not host or (not host.startswith("/") and re.search(r"://|[@=\s]", host)):
            raise ValueError(
                "a host name, an address or a socket's folder; port, database and user have keys of their own"
            )
        return host

    @field_validator("port")
    @classmethod
    def _no_transaction_pooler(cls, port: int) -> int:
        if port == TRANSACTION_POOLER_PORT:
            raise ValueError(
                "6543 is the transaction pooler's port, where a snapshot cannot be held: use the direct connection (5432)"
            )
        return port

    @model_validator(mode="after")
    def _schemas_agree(self) -> "Database":
        both = sorted(set(self.include_schemas) & set(self.exclude_schemas))
        if both:
            raise ValueError(f"schemas both included and excluded: {', '.join(both)}")
        return self
