"""Dumps in pg_dump's directory format, stored and decoded as the nightly backup does."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from core.manifest import Manifest
from core.pg_commands import pg_restore_list_command
from tasks.decode import decode_backup
from tasks.directory_dump import StreamedDirectory, dump_directory_to_store
from tasks.object_store import ObjectStore
from tests.fix_streams import FOLDER, GIB, Sample, manifest_for

MIB = 1024 * 1024


def dump_directory(sample: Sample, store: ObjectStore, spool: Path, *, jobs: int = 2, **more: Any) -> StreamedDirectory:
    """Dump a sample as the nightly backup does with jobs > 1."""
    arguments: dict[str, Any] = {
        "on": "the sample database",
        "relative": "dump",
        "level": 3,
        "segment_bytes": GIB,
        "spool_directory": str(spool),
        "reserve_bytes": MIB,
        "list_argv": lambda folder: pg_restore_list_command(str(sample.server.bin / "pg_restore"), folder),
    }
    return dump_directory_to_store(
        store,
        FOLDER,
        lambda folder: sample.pg_dump(archive_format="directory", directory=folder, jobs=jobs),
        more.pop("environment", sample.environment),
        **(arguments | more),
    )


def decode(sample: Sample, store: ObjectStore, manifest: Manifest) -> Any:
    """Decode a stored sample as the nightly backup does."""
    return decode_backup(
        store, FOLDER, manifest, "0" * 64, SimpleNamespace(pg_restore=sample.server.bin / "pg_restore")
    )


def manifest_of(sample: Sample, store: ObjectStore, streamed: StreamedDirectory) -> Manifest:
    """The manifest of a stored sample, with the globals stored beside it."""
    globals_part = sample.dump_globals(store).part
    return manifest_for(streamed.parts, globals_part, sample.rows, archive_format="directory")
