"""Proving that a backup can be read: everything is fetched back from S3, compared with the manifest and decoded to its end.

What is proven: each segment's and each stream's stored and plain SHA-256 and size, zstd's content checksum, that `pg_restore` reads the archive to its
end without an error, that the globals are whole, and that the dump holds the tables of the manifest with as many rows as the snapshot had.
What is not: that it restores (a drill does that). Nothing is kept on disk, and memory does not grow with the backup.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Protocol

from core.copy_rows import TableName
from core.errors import IntegrityError
from core.manifest import Decoded, Manifest, Table
from core.pg_commands import pg_restore_decode_command
from tasks.compressed_stream import Meter, OnBytes
from tasks.directory_decode import count_directory
from tasks.object_store import ObjectStore
from tasks.row_counter import RowCounter
from tasks.stored_stream import Source, read_part

GLOBALS_END = b"-- PostgreSQL database cluster dump complete"
TAIL_BYTES = 4096


class HasPgRestore(Protocol):
    """What is needed of tasks.clients.Clients."""

    @property
    def pg_restore(self) -> os.PathLike[str]:
        """The program's path."""


def decode_backup(
    store: ObjectStore,
    backup_folder: str,
    manifest: Manifest,
    manifest_sha256: str,
    clients: HasPgRestore,
    *,
    on_bytes: OnBytes | None = None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Decoded:
    """Given a backup's folder (with a slash at its end), its manifest and the SHA-256 of the manifest's stored bytes, read everything back and decode it.

    `on_bytes` is told (plain, stored) bytes so far. Raise IntegrityError saying what differs, TemporaryError when S3 does not answer.
    """
    source = Source(store, backup_folder, Meter(on_bytes))
    _check_globals(source, manifest)
    program = os.fspath(clients.pg_restore)
    count = _count_custom if manifest.archive.format == "custom" else _count_files
    rows = count(source, manifest, program)
    compare_rows(manifest.tables, rows, source.where)
    source.meter.finish()
    return Decoded(
        backup_id=manifest.backup_id,
        manifest_sha256=manifest_sha256,
        decoded_at=now(),
        stored_bytes=manifest.stored_bytes,
        plain_bytes=manifest.plain_bytes,
        tables_counted=len(rows),
        rows_counted=sum(rows.values()),
    )


def compare_rows(tables: tuple[Table, ...], rows: Mapping[TableName, int], where: str) -> None:
    """Given the manifest's tables and the rows that the dump holds, raise IntegrityError naming each table that is missing, too much, or differs."""
    recorded: dict[TableName, list[Table]] = {}
    for table in tables:
        recorded.setdefault(table.routed_through or (table.schema_name, table.name), []).append(table)
    findings = [f"{'.'.join(name)} is missing in the dump" for name in recorded if name not in rows]
    findings += [f"{'.'.join(name)} is in the dump and not in the manifest" for name in rows if name not in recorded]
    for name, members in recorded.items():
        counted = [table.rows for table in members if table.rows is not None]
        if name in rows and len(counted) == len(members) and rows[name] != sum(counted):
            findings.append(f"{'.'.join(name)} has {rows[name]} rows in the dump, {sum(counted)} in the snapshot")
    if findings:
        shown = "; ".join(findings[:20])
        more = f"; and {len(findings) - 20} more" if len(findings) > 20 else ""
        raise IntegrityError("compare the dump with its manifest", where, shown + more, "Do not rely on this backup")


def _count_custom(source: Source, manifest: Manifest, program: str) -> dict[TableName, int]:
    if len(manifest.archive.parts) != 1:
        found = f"a custom-format archive has one part, not {len(manifest.archive.parts)}"
        raise IntegrityError("decode the backup", source.where, found)
    with RowCounter(pg_restore_decode_command(program)) as counter:
        read_part(source, manifest.archive.parts[0], counter.write, lambda: not counter.gave_up)
        return counter.finish(source.where)


def _count_files(source: Source, manifest: Manifest, program: str) -> dict[TableName, int]:
    return count_directory(source, manifest.archive.parts, program)


def _check_globals(source: Source, manifest: Manifest) -> None:
    tail = bytearray()

    def keep_tail(block: memoryview) -> None:
        nonlocal tail
        tail += block
        del tail[:-TAIL_BYTES]

    read_part(source, manifest.globals, keep_tail)
    if GLOBALS_END not in tail:
        raise IntegrityError("decode the backup", f"{source.where}, globals", "pg_dumpall's last line is missing")
