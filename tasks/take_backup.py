"""One backup of one database, from the snapshot to a manifest that is complete but not yet written: dump and digests side by side in one snapshot.

Whatever fails, nothing that this attempt stored is left.
"""

import os
import platform
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from typing import Any, Literal

from core.archive_listing import parse_listing
from core.backup_id import make_backup_id
from core.coverage import compare_coverage
from core.environment import Environment
from core.environment_database import Database
from core.keys import backup_folder
from core.manifest import Archive, Coverage, Manifest, StoredPart, ToolVersions
from core.pg_commands import pg_dump_command, pg_dumpall_globals_command, pg_restore_list_command
from tasks.clients import Clients, find_clients
from tasks.digests import DigestResult, compute_digests
from tasks.directory_dump import dump_directory_to_store
from tasks.dump_stream import Streamed, dump_to_store
from tasks.dump_watch import watched_dump
from tasks.object_store import ObjectStore
from tasks.postgres import describe, libpq_environment
from tasks.progress import Progress
from tasks.recording import Clock, utc_now
from tasks.snapshot import HeldSnapshot, hold_snapshot

MIB = 1024**2
GIB = 1024**3
_Dumped = tuple[Archive, str, tuple[str, ...]]

_PLAIN_STRINGS = "standard_conforming_strings"


@dataclass(frozen=True)
class _Attempt:
    """What one attempt works with. `folder` is the backup's in the bucket, with a slash at its end."""

    environment: Environment
    name: str
    store: ObjectStore
    held: HeldSnapshot
    clients: Clients
    folder: str
    application_name: str

    @property
    def database(self) -> Database:
        return self.environment.databases[self.name]

    @property
    def segment_bytes(self) -> int:
        return self.environment.backups.segment_gib * GIB

    @property
    def child_environment(self) -> dict[str, str]:
        return libpq_environment(self.database, application_name=self.application_name)


@dataclass(frozen=True)
class _Stored:
    """What an attempt has stored."""

    archive: Archive
    globals: StoredPart
    coverage: Coverage
    warnings: tuple[str, ...]


def take_backup(
    environment: Environment,
    name: str,
    store: ObjectStore,
    progress: Progress,
    *,
    clock: Clock = utc_now,
    random_bytes: Callable[[int], bytes] = os.urandom,
) -> Manifest:
    """Given an environment and the name of one of its databases, store a dump of it and return its manifest, which is not written yet.

    `progress` is kept up to date meanwhile. Raise TemporaryError or PermanentError; then nothing of this attempt is left in the bucket.
    """
    started = clock()
    database = environment.databases[name]
    with hold_snapshot(database, backup_key=f"backup of {environment.name}/{name}") as held:
        backup_id = make_backup_id(held.time, random_bytes(4))
        attempt = _Attempt(
            environment,
            name,
            store,
            held,
            find_clients(held.server.version_number // 10_000),
            backup_folder(environment.prefix, name, backup_id),
            application_name=f"nightshift pg_dump {backup_id}",
        )
        progress.estimated_bytes = held.inventory.estimated_bytes
        try:
            with (
                _digests_beside(attempt, progress) as digests,
                watched_dump(database, attempt.application_name, progress),
            ):
                stored = _store(attempt, _watchful(progress.on_bytes, digests))
                counted = digests.result()
            held.check()
        except BaseException:
            store.remove_folder(attempt.folder)
            raise
        return _manifest(attempt, backup_id, stored, counted, times=(started, clock()))


@contextmanager
def _digests_beside(attempt: _Attempt, progress: Progress) -> Iterator[Future[DigestResult]]:
    """Compute the digests in threads while the block runs. When it is left early they are cancelled; no thread outlives the block."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, thread_name_prefix="digests") as pool:
        future = pool.submit(compute_digests, attempt.database, attempt.held, stop=stop, on_table=progress.on_digest)
        try:
            yield future
        finally:
            stop.set()


def _watchful(on_bytes: Callable[[int, int], None], beside: Future[Any]) -> Callable[[int, int], None]:
    """The stream's callback: what is done beside the dump and failed ends the dump at once rather than hours later."""

    def watching(plain: int, stored: int) -> None:
        on_bytes(plain, stored)
        if beside.done():
            beside.result()

    return watching


def _store(attempt: _Attempt, on_bytes: Callable[[int, int], None]) -> _Stored:
    """Store the dump and, beside it, the globals; compare the dump's listing with the catalogue."""
    inventory, store_archive = attempt.held.inventory, _store_dump if attempt.database.jobs == 1 else _store_directory
    with ThreadPoolExecutor(1, thread_name_prefix="globals") as pool:
        dumped = pool.submit(_store_globals, attempt)
        archive, listing, warnings = store_archive(attempt, _watchful(on_bytes, dumped))
        globals_ = dumped.result()
    coverage = compare_coverage(inventory.expected, parse_listing(listing), inventory.roles, globals_.text)
    return _Stored(archive, globals_.part, coverage, (*warnings, *globals_.warnings))


def _store_globals(attempt: _Attempt) -> Streamed:
    """Store roles and tablespaces, and return them as text too."""
    database, environment = attempt.database, attempt.child_environment
    if attempt.held.connection.info.parameter_status(_PLAIN_STRINGS) != "on":
        # Set so for the database or the role: pg_dumpall would write strings that a restore cannot read. Asked for only then, since some poolers refuse options.
        environment["PGOPTIONS"] = f"-c {_PLAIN_STRINGS}=on"
    return dump_to_store(
        attempt.store,
        attempt.folder,
        pg_dumpall_globals_command(
            str(attempt.clients.pg_dumpall),
            database=database.name,
            role_passwords=database.role_passwords,
            lock_timeout_seconds=database.lock_timeout_seconds,
        ),
        environment,
        on=describe(database),
        name="globals.sql",
        relative="globals",
        level=database.compression_level,
        segment_bytes=attempt.segment_bytes,
        keep_text=True,
    )


def _store_dump(attempt: _Attempt, on_bytes: Callable[[int, int], None]) -> _Dumped:
    """Store a dump in pg_dump's custom format as one stream. Return its record, its listing, and what pg_dump warned of."""
    database = attempt.database
    dump = dump_to_store(
        attempt.store,
        attempt.folder,
        pg_dump_command(
            str(attempt.clients.pg_dump),
            snapshot=attempt.held.name,
            exclude_schemas=attempt.held.inventory.exclude_schemas,
            lock_timeout_seconds=database.lock_timeout_seconds,
        ),
        attempt.child_environment,
        on=describe(database),
        name="dump.pgdump",
        relative="dump",
        level=database.compression_level,
        segment_bytes=attempt.segment_bytes,
        on_bytes=on_bytes,
        listing_argv=pg_restore_list_command(str(attempt.clients.pg_restore)),
    )
    return _archive("custom", database, (dump.part,)), dump.listing, dump.warnings


def _store_directory(attempt: _Attempt, on_bytes: Callable[[int, int], None]) -> _Dumped:
    """Store a dump in pg_dump's directory format, made by several jobs, file by file. Return its record, its listing, and what pg_dump warned of."""
    database = attempt.database
    dump = dump_directory_to_store(
        attempt.store,
        attempt.folder,
        lambda folder: pg_dump_command(
            str(attempt.clients.pg_dump),
            snapshot=attempt.held.name,
            archive_format="directory",
            directory=folder,
            jobs=database.jobs,
            exclude_schemas=attempt.held.inventory.exclude_schemas,
            lock_timeout_seconds=database.lock_timeout_seconds,
        ),
        attempt.child_environment,
        on=describe(database),
        relative="dump",
        level=database.compression_level,
        segment_bytes=attempt.segment_bytes,
        spool_directory=database.spool_directory,
        reserve_bytes=database.spool_reserve_mib * MIB,
        list_argv=lambda folder: pg_restore_list_command(str(attempt.clients.pg_restore), folder),
        on_bytes=on_bytes,
    )
    return _archive("directory", database, dump.parts), dump.listing, dump.warnings


def _archive(
    archive_format: Literal["custom", "directory"], database: Database, parts: tuple[StoredPart, ...]
) -> Archive:
    return Archive(format=archive_format, compression="zstd", compression_level=database.compression_level, parts=parts)


def _manifest(
    attempt: _Attempt, backup_id: str, stored: _Stored, counted: DigestResult, *, times: tuple[datetime, datetime]
) -> Manifest:
    held, inventory = attempt.held, attempt.held.inventory
    return Manifest(
        backup_id=backup_id,
        environment=attempt.environment.name,
        database=attempt.name,
        snapshot_time=held.time,
        started=times[0],
        finished=times[1],
        tools=ToolVersions(
            nightshift=version("nightshift"), pg_dump=attempt.clients.version, python=platform.python_version()
        ),
        server=held.server,
        archive=stored.archive,
        globals=stored.globals,
        tables=tuple(
            draft.counted(counted.tables[draft.oid].rows, counted.tables[draft.oid].digest)
            for draft in inventory.tables
        ),
        sequences=inventory.sequences,
        extensions=inventory.extensions,
        collations=inventory.collations,
        large_objects=counted.large_objects,
        roles=inventory.roles,
        properties=inventory.properties,
        statistics=inventory.statistics,
        schema_fingerprint=inventory.schema_fingerprint,
        coverage=stored.coverage,
        not_in_backup=inventory.not_in_backup,
        objects=inventory.objects,
        warnings=stored.warnings,
    )
