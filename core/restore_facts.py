"""What reports and tables say of a restore: figures with their unit in the name, as evidence wants them."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from core.backup_source import source_text
from core.manifest import Manifest, Record
from core.restore_record import Control, Restored, Skipped
from core.restored_comparison import Verification
from core.units import human_age, human_bytes, human_duration

_NAMED_AT_MOST = 10


class Outlook(Record):
    """What a restore would meet, as a dry run found it. `refusals`: why it would not be done; `swap`: why the swap would not, None when none was asked for."""

    refusals: tuple[str, ...] = ()
    swap: tuple[str, ...] | None = None
    server_version: str = ""
    roles: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """All that would stop it."""
        return (*self.refusals, *(f"the swap would be refused: {reason}" for reason in self.swap or ()))


def restored_facts(restored: Restored, manifest: Manifest, verification: Verification) -> dict[str, Any]:
    """Given a finished restore, return the facts of its step."""
    return {
        "backup_id": restored.backup_id,
        "database": restored.name,
        "server": f"{restored.server}, PostgreSQL {restored.server_version}",
        "dumped_from": f"PostgreSQL {manifest.server.version} with pg_dump {manifest.tools.pg_dump}",
        "pg_restore": restored.pg_restore,
        "plain_bytes": manifest.plain_bytes,
        "recovery_ms": restored.ms,
        "phases": [{"phase": phase.name, "took_ms": phase.ms} for phase in restored.phases],
        "tables_compared": verification.tables_compared,
        "tables_counted_only": verification.compared.counts,
        "tables_not_compared": verification.compared.off,
        "rows": verification.rows,
        "streamed": restored.streamed,
        "roles_created": list(restored.roles_created),
        "skipped": [{"entry": one.entry, "why": one.why} for one in restored.skipped],
    }


def control_rows(controls: tuple[Control, ...]) -> list[dict[str, Any]]:
    """Given the negative controls, return a table for people."""
    return [{"damage": one.name, "on": one.on, "detected": one.detected, "how": one.how} for one in controls]


def plan_rows(
    manifest: Manifest,
    *,
    state: str,
    now: datetime,
    target: str,
    server: str,
    expected_ms: int | None,
    free_bytes: int,
    outlook: Outlook | None = None,
) -> list[dict[str, str]]:
    """Given what a restore would do, the backup's state and the time (aware), return the table that a dry run shows; with what it would meet, where that was looked at.

    `free_bytes`: of the spool's disk, beside the reserve.
    """
    rows = [
        ("backup", manifest.backup_id),
        ("of", f"{source_text(manifest.server)}, PostgreSQL {manifest.server.version}"),
        ("state", state),
        ("snapshot", f"{manifest.snapshot_time:%Y-%m-%d %H:%M:%S %Z}"),
        ("would be lost", f"everything written since: in the last {human_age(now - manifest.snapshot_time)}"),
        ("becomes", f"new database {target} on {server}"),
        ("to fetch", human_bytes(manifest.stored_bytes)),
        ("to restore", f"{human_bytes(manifest.plain_bytes)}, {len(manifest.tables)} tables"),
        ("spool", _spool(manifest, free_bytes)),
        (
            "expected time",
            "unknown: no drill was run yet"
            if expected_ms is None
            else f"about {human_duration(expected_ms)}, from past drills",
        ),
        ("overwritten", "nothing"),
        *(_outlook_rows(outlook) if outlook else ()),
    ]
    return [{"what": what, "value": value} for what, value in rows]


def _spool(manifest: Manifest, free_bytes: int) -> str:
    text = f"needs {human_bytes(manifest.plain_bytes)}, {human_bytes(free_bytes)} are free beside the reserve"
    if free_bytes >= manifest.plain_bytes:
        return text
    # Only one stream can be given to pg_restore while it comes.
    return f"{text}; not enough{': streamed with one job' if manifest.archive.format == 'custom' else ''}"


def _outlook_rows(outlook: Outlook) -> Iterator[tuple[str, str]]:
    if outlook.server_version:
        yield "server", f"PostgreSQL {outlook.server_version}"
    if outlook.roles:
        yield "roles made", _named(outlook.roles)
    for one in outlook.skipped[:_NAMED_AT_MOST]:
        yield "left out", f"{one.entry}: {one.why}"
    if len(outlook.skipped) > _NAMED_AT_MOST:
        yield "left out", f"and {len(outlook.skipped) - _NAMED_AT_MOST} more"
    for note in outlook.notes:
        yield "note", note
    for reason in outlook.refusals:
        yield "REFUSED", reason
    for reason in outlook.swap or ():
        yield "SWAP REFUSED", reason
    if outlook.swap == ():
        yield "swap", "nothing forbids it now; it is looked at again when there is a copy"


def _named(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more
