"""What a backup run tells people: facts of a manifest for the report."""

from typing import Any

from core.backup_source import source_text
from core.compared_tables import compared_tables
from core.evidence import Finding
from core.manifest import Decoded, Manifest
from core.retention import Plan
from core.units import ratio_text


def backup_facts(manifest: Manifest) -> dict[str, Any]:
    """Given a manifest, return what its report tells: sizes, place in the write-ahead log, coverage, and every table with rows and digest."""
    compared = compared_tables(manifest.tables)
    counted = [table.rows for table in manifest.tables if table.rows is not None]
    return {
        "backup_id": manifest.backup_id,
        "snapshot_time": manifest.snapshot_time.isoformat(),
        "of": source_text(manifest.server),
        "server": f"PostgreSQL {manifest.server.version}, system {manifest.server.system_identifier}",
        "write_ahead_log": f"timeline {manifest.server.timeline}, {manifest.server.lsn}",
        "pg_dump": manifest.tools.pg_dump,
        "format": manifest.archive.format,
        "plain_bytes": manifest.plain_bytes,
        "stored_bytes": manifest.stored_bytes,
        "ratio": ratio_text(manifest.plain_bytes, manifest.stored_bytes),
        "objects_covered": f"{manifest.coverage.expected - len(manifest.coverage.missing)} of {manifest.coverage.expected}",
        "rows": sum(counted),
        "tables_with_digest": f"{compared.full} of {compared.all}",
        "large_objects": manifest.large_objects.count,
        "schema_fingerprint": manifest.schema_fingerprint,
        "tables": [
            {
                "table": table.qualified,
                "rows": table.rows,
                "digest": table.digest,
                "mode": table.mode,
                "size_bytes": table.size_bytes,
            }
            for table in sorted(manifest.tables, key=lambda table: -table.size_bytes)
        ],
        "not_in_this_backup": [
            {"kind": omission.kind, "name": omission.name, "why": omission.why} for omission in manifest.not_in_backup
        ],
    }


def backup_findings(manifest: Manifest) -> tuple[Finding, ...]:
    """Given a manifest, return what an operator must know of it: each object that the dump does not hold is an error, named; tables of which no drill can say that
    their content came back are a note; what pg_dump said, a warning."""
    compared = compared_tables(manifest.tables)
    reserved = f"{compared.short} by a drill or restore: {compared.reservation}"
    return (
        *(
            Finding(severity="error", text=f"not in the dump although it should be: {missing}")
            for missing in manifest.coverage.missing
        ),
        *((Finding(severity="note", text=reserved),) if compared.reserved else ()),
        *(Finding(severity="warning", text=warning) for warning in manifest.warnings),
    )


def decoded_facts(decoded: Decoded) -> dict[str, Any]:
    """Given the result of reading a backup back, return what its report tells."""
    return {
        "stored_bytes": decoded.stored_bytes,
        "plain_bytes": decoded.plain_bytes,
        "tables_counted": decoded.tables_counted,
        "rows_counted": decoded.rows_counted,
    }


def retention_rows(plan: Plan) -> list[dict[str, str]]:
    """Given a retention plan, return one row a backup for a table: newest first."""
    return [
        {"backup": decision.backup_id, "decision": "keep" if decision.keep else "delete", "why": decision.reason}
        for decision in reversed(plan.decisions)
    ]
