"""What reports and tables say of a restore: figures with their unit in the name, as evidence wants them."""

from typing import Any

from core.manifest import Manifest
from core.restore_record import Control, Restored
from core.restored_comparison import Verification
from core.units import human_bytes, human_duration


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
    manifest: Manifest, *, target: str, server: str, expected_ms: int | None, free_bytes: int | None
) -> list[dict[str, str]]:
    """Given what a restore would do, return the table that a dry run shows."""
    return [
        {"what": "backup", "value": f"{manifest.backup_id}, snapshot of {manifest.snapshot_time:%Y-%m-%d %H:%M:%S %Z}"},
        {"what": "becomes", "value": f"new database {target} on {server}"},
        {"what": "to fetch", "value": human_bytes(manifest.stored_bytes)},
        {"what": "to restore", "value": f"{human_bytes(manifest.plain_bytes)}, {len(manifest.tables)} tables"},
        {
            "what": "spool",
            "value": f"needs {human_bytes(manifest.plain_bytes)}"
            + ("" if free_bytes is None else f", {human_bytes(free_bytes)} are free")
            + (
                "; not enough: streamed with one job"
                if free_bytes is not None and free_bytes < manifest.plain_bytes
                else ""
            ),
        },
        {
            "what": "expected time",
            "value": "unknown: no drill was run yet"
            if expected_ms is None
            else f"about {human_duration(expected_ms)}, from past drills",
        },
        {"what": "overwritten", "value": "nothing"},
    ]
