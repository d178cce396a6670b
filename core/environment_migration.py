"""The table [release.migration]: the database migration of a release."""

import re
from datetime import time
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from core.section import Name, OptionalText, Section

_IDENTIFIER = r"[A-Za-z_][A-Za-z0-9_$]{0,62}"
_TABLE = re.compile(rf"({_IDENTIFIER}\.)?{_IDENTIFIER}")
_WINDOW = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")
# A DNS subdomain, as Secrets and ServiceAccounts are named (Kubernetes documentation, "Object Names and IDs").
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
# As the API server checks the names of variables (a C identifier); keys of Secrets may hold more.
_Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_SECRET_KEY = r"^[-._a-zA-Z0-9]{1,253}$"  # noqa: S105 - a pattern


class Migration(Section):
    """The database migration, run as a Job before the new version starts."""

    database: Name = Field(
        description="Which of [databases.NAME] is migrated: it is backed up first, and looked at before and after."
    )
    repository: OptionalText = Field(
        None, description="Repository of the migrations' image, when it is another than release.repository."
    )
    command: tuple[str, ...] = Field(
        (),
        description='Program and arguments that migrate, such as ["npm", "run", "migrate:up"]. Empty: as the template\'s container has them.',
    )
    template: OptionalText = Field(
        None,
        description="Path of a YAML file with a Job to go by, on the worker, relative to the environments' folder: resources, volumes, variables. Empty: a plain one.",
    )
    container: OptionalText = Field(
        None, description="template: its container that migrates. Empty: the only one it has."
    )
    secret: OptionalText = Field(
        None, description="Secret in release.namespace that holds the database's address. Empty: the template gives it."
    )
    secret_key: str = Field("url", pattern=_SECRET_KEY, description="Its key: postgresql://USER:PASSWORD@HOST:PORT/DB.")
    lock_secret_key: OptionalText = Field(
        None,
        description="Its key with the address of a direct connection, when secret_key's goes through a pooler. Empty: the same key.",
    )
    variable: _Variable = Field("DATABASE_URL", description="Variable that the migrations read the address from.")
    service_account: OptionalText = Field(
        None, description="Service account of the Job's Pod. Empty: the template's, else the namespace's default."
    )
    table: str = Field(
        "knex_migrations", description="Table that lists the applied migrations (public, or SCHEMA.TABLE)."
    )
    column: str = Field("name", pattern=rf"^{_IDENTIFIER}$", description="Its column with their names.")
    lock_table: OptionalText = Field(
        "knex_migrations_lock", description='Table with the migrator\'s own lock, as knex has it. "": it has none.'
    )
    pending_command: OptionalText = Field(
        None,
        description="Shell command in the migrations' image that prints one pending migration a line. Empty: not checked, and the report says so.",
    )
    runs: int = Field(
        20,
        ge=1,
        le=500,
        description="How often the Job may be run while migrations are pending (knex migrate:up: one each).",
    )
    lock_image: str = Field(
        "postgres:17",
        min_length=1,
        description="Image with sh and psql: a container beside the migration holds an advisory lock.",
    )
    lock_wait_seconds: int = Field(
        60, ge=1, le=3600, description="How long to wait for another migrator to let go of that lock."
    )
    lock_timeout_ms: int = Field(
        2000,
        ge=10,
        le=600_000,
        description="lock_timeout of the migration's sessions: how long queries may queue behind a statement that waits for a lock.",
    )
    last_lock_timeout_ms: int = Field(10_000, ge=10, le=600_000, description="lock_timeout of the last try.")
    lock_attempts: int = Field(
        4, ge=1, le=20, description="How often to try when a lock was not to be had in time and nothing was changed."
    )
    named_by: Literal["PGOPTIONS", "PGAPPNAME"] = Field(
        "PGOPTIONS",
        description="How sessions get the name to look for. PGOPTIONS: seeing it proves that lock_timeout was taken. PGAPPNAME: for psql, which names itself.",
    )
    start_seconds: int = Field(
        300, ge=10, le=3600, description="How long the Job's Pod may take to start: quota, node, image."
    )
    minutes: int = Field(
        30, ge=1, le=1440, description="How long the migration may take before it is ended (activeDeadlineSeconds)."
    )
    expected_minutes: int = Field(
        5, ge=1, le=1440, description="How long it is expected to take: it starts only when that fits into the window."
    )
    window: OptionalText = Field(
        None, description="When it may run, in the environment's time zone, such as 22:00-04:30. Empty: at any time."
    )

    @field_validator("table", "lock_table")
    @classmethod
    def _table_name(cls, table: str | None) -> str | None:
        if table is not None and not _TABLE.fullmatch(table):
            raise ValueError("TABLE or SCHEMA.TABLE, of letters, digits, '_' and '$', as the catalogue has it")
        return table

    @field_validator("secret", "service_account")
    @classmethod
    def _object_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(OBJECT_NAME, name):
            raise ValueError("the name of an object in release.namespace: lower-case letters, digits, '-' and '.'")
        return name

    @field_validator("window")
    @classmethod
    def _two_times(cls, window: str | None) -> str | None:
        if window is None:
            return None
        if not _WINDOW.fullmatch(window) or window[:5] == window[6:]:
            raise ValueError("two different times of the day, such as 22:00-04:30")
        return window

    @model_validator(mode="after")
    def _agree(self) -> "Migration":
        if not self.command and self.template is None:
            raise ValueError("command is needed where there is no template")
        if self.secret is None and self.template is None:
            raise ValueError("secret is needed where there is no template: how else would the Job find its database")
        if self.lock_secret_key is not None and self.secret is None:
            raise ValueError("lock_secret_key goes with secret")
        if self.expected_minutes > self.minutes:
            raise ValueError("expected_minutes is longer than minutes, after which the migration is ended")
        if self.last_lock_timeout_ms < self.lock_timeout_ms:
            raise ValueError("last_lock_timeout_ms is shorter than lock_timeout_ms")
        if self.window is not None and self.expected_minutes > _minutes_between(*self.window_times):
            raise ValueError(f"expected_minutes = {self.expected_minutes} never fits into window = {self.window!r}")
        return self

    @property
    def window_times(self) -> tuple[time, time]:
        """When the window opens and closes, local times; it may close on the next day. Raise ValueError when there is none."""
        if self.window is None:
            raise ValueError("there is no window")
        opens, closes = self.window.split("-")
        return time.fromisoformat(opens), time.fromisoformat(closes)

    @property
    def tables(self) -> tuple[tuple[str, str], ...]:
        """The migrator's own tables as (schema, name): the list, and its lock if it has one."""
        named = (self.table, *((self.lock_table,) if self.lock_table else ()))
        return tuple((schema or "public", name) for schema, _, name in (one.rpartition(".") for one in named))


def _minutes_between(opens: time, closes: time) -> int:
    return ((closes.hour - opens.hour) * 60 + closes.minute - opens.minute) % 1440
