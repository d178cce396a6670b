"""`jobs` above 1: pg_dump writes its directory format with several workers into a local folder, and each file goes to S3 as soon as it is finished.

    pg_dump --jobs=N → spool folder → per file: SHA-256 → zstd → SHA-256 → upload → removed from the spool

The disk is bounded: while less than the reserve is free, pg_dump and its workers are held (SIGSTOP) until uploads have made room. `toc.dat` goes last.
A single file larger than the room cannot be finished: this is told as an error, not waited for.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from core.errors import PermanentError
from core.manifest import StoredPart
from tasks.children import Child
from tasks.compressed_stream import COMPRESSION_THREADS, CompressedStream, Meter, OnBytes, store_stream
from tasks.dump_stream import require_success, tool_environment, warnings_of
from tasks.head_listing import list_folder
from tasks.object_store import ObjectStore
from tasks.spool import TABLE_OF_CONTENTS, finished_files, free_bytes, spool_folder

POLL_SECONDS = 0.1
# Each upload holds three parts in memory.
UPLOADS_AT_ONCE = 2
# Held, and let go again only when this much more than the reserve is free: else it would be stopped and started with every file.
SLACK = 1.1
# Below this, compression threads cost more than they save.
THREADS_FROM_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class StreamedDirectory:
    """What was stored: a record per file for the manifest, by name; the archive's listing; what pg_dump warned of."""

    parts: tuple[StoredPart, ...]
    listing: str
    warnings: tuple[str, ...] = ()


@dataclass
class _Uploads:
    """Files on their way to S3, and those that are there."""

    sender: _Sender
    threads: ThreadPoolExecutor
    under_way: dict[str, Future[StoredPart]] = field(default_factory=dict)
    parts: dict[str, StoredPart] = field(default_factory=dict)

    def begin(self, paths: Sequence[Path]) -> None:
        """Upload files that are not on their way yet."""
        for path in paths:
            if path.name not in self.under_way and path.name not in self.parts:
                self.under_way[path.name] = self.threads.submit(self.sender.send, path)

    def collect(self) -> None:
        """Note what has arrived; raise what an upload raised."""
        for name, future in list(self.under_way.items()):
            if future.done():
                self.parts[name] = future.result()
                del self.under_way[name]

    def wait(self) -> None:
        """Wait for all; raise what an upload raised."""
        for name, future in self.under_way.items():
            self.parts[name] = future.result()
        self.under_way.clear()

    def cancel(self) -> None:
        """Begin no more, and end those under way soon."""
        self.sender.stopped.set()
        self.threads.shutdown(wait=False, cancel_futures=True)


class _Brake:
    """Holds pg_dump while the disk has less than the reserve."""

    def __init__(self, child: Child, folder: Path, reserve_bytes: int) -> None:
        self._child, self._folder, self._reserve = child, folder, reserve_bytes
        self.held = False
        self._idle_polls = 0

    def look(self, *, uploading: bool) -> None:
        """Hold or let go. Raise PermanentError when it is held and nothing is left whose upload would make room."""
        free = free_bytes(self._folder)
        if not self.held and free < self._reserve:
            self._child.pause()
            self.held, self._idle_polls = True, 0
        elif self.held and free >= self._reserve * SLACK:
            self._child.resume()
            self.held = False
        self._idle_polls = self._idle_polls + 1 if self.held and not uploading else 0
        # The signal takes its time to arrive, and a file may be finished until then.
        if self._idle_polls > 3:
            raise PermanentError(
                "dump into the spool folder",
                str(self._folder),
                f"{free} bytes are free, fewer than the reserve of {self._reserve}, and no finished file is left to upload",
                "Give spool_directory more room than the largest tables at work need, or set jobs = 1, which needs none",
            )


def dump_directory_to_store(
    store: ObjectStore,
    backup_folder: str,
    dump_argv: Callable[[str], Sequence[str]],
    child_environment: Mapping[str, str],
    *,
    on: str,
    relative: str,
    level: int,
    segment_bytes: int,
    spool_directory: str | None,
    reserve_bytes: int,
    list_argv: Callable[[str], Sequence[str]],
    on_bytes: OnBytes | None = None,
) -> StreamedDirectory:
    """Run `pg_dump --format=directory` and store its files, each compressed as a stream of its own under RELATIVE/FILE/.

    Args:
        backup_folder, on, relative, level, segment_bytes, on_bytes: as for tasks.dump_stream.dump_to_store.
        dump_argv: given the folder to write (which must not exist yet), pg_dump's command line.
        list_argv: given the folder, the command line of `pg_restore --list`.
        spool_directory: where the local folder is made; None: the system's temporary folder. It is removed in any case.
        reserve_bytes: pg_dump is held while fewer are free there.

    Raise TemporaryError or PermanentError with pg_dump's stderr when it fails, those of ObjectStore, and PermanentError when the disk is too small.
    Then everything under BACKUP_FOLDER/RELATIVE/ is removed.
    """
    meter = Meter(on_bytes)
    sender = _Sender(store, backup_folder, relative, level, segment_bytes, meter, threading.Event())
    try:
        with spool_folder(spool_directory) as spool:
            # pg_dump wants to make its folder itself.
            folder = spool / "dump"
            with ExitStack() as context:
                threads = context.enter_context(ThreadPoolExecutor(UPLOADS_AT_ONCE, thread_name_prefix="spool"))
                uploads = _Uploads(sender, threads)
                context.callback(uploads.cancel)
                child = context.enter_context(
                    Child(dump_argv(str(folder)), environment=child_environment, workers=True)
                )
                _follow(child, folder, spool, uploads, reserve_bytes)
                require_success(child, on)
                listing = list_folder(list_argv(str(folder)), tool_environment(child_environment), on=on)
                _send_the_rest(folder, uploads)
        meter.finish()
    except BaseException:
        store.remove_folder(f"{backup_folder}{relative}/")
        raise
    return StreamedDirectory(tuple(part for _, part in sorted(uploads.parts.items())), listing, warnings_of(child))


def _follow(child: Child, folder: Path, spool: Path, uploads: _Uploads, reserve_bytes: int) -> None:
    """Upload files as they are finished until pg_dump ends."""
    brake = _Brake(child, spool, reserve_bytes)
    while child.running:
        uploads.begin([folder / name for name in finished_files(folder, child.pid)])
        uploads.collect()
        brake.look(uploading=bool(uploads.under_way))
        time.sleep(POLL_SECONDS)


def _send_the_rest(folder: Path, uploads: _Uploads) -> None:
    names = sorted(entry.name for entry in os.scandir(folder))
    uploads.begin([folder / name for name in names if name != TABLE_OF_CONTENTS])
    uploads.wait()
    uploads.begin([folder / TABLE_OF_CONTENTS])
    uploads.wait()


@dataclass(frozen=True)
class _Sender:
    """Uploads one finished file at a time, in any thread."""

    store: ObjectStore
    backup_folder: str
    relative: str
    level: int
    segment_bytes: int
    meter: Meter
    stopped: threading.Event

    def send(self, path: Path) -> StoredPart:
        """Upload a finished file and remove it."""
        with path.open("rb", buffering=0) as file:

            def fill(view: memoryview) -> int:
                if self.stopped.is_set():
                    raise PermanentError("upload", path.name, "stopped, because another part of the dump failed")
                return file.readinto(view) or 0

            stream = CompressedStream(
                fill,
                level=self.level,
                meter=self.meter,
                at_end=lambda: None,
                threads=COMPRESSION_THREADS if path.stat().st_size >= THREADS_FROM_BYTES else 0,
            )
            relative = f"{self.relative}/{path.name}"
            part = store_stream(
                self.store, self.backup_folder, relative, stream, name=path.name, segment_bytes=self.segment_bytes
            )
        path.unlink()
        return part
