"""A program's output as objects in S3: `pg_dump --format=custom` and `pg_dumpall --globals-only`, streamed.

    pg_dump → pipe → SHA-256 → zstd (2 threads) → SHA-256 → segments → multipart uploads
                 └→ the head: pg_restore --list, for the coverage

Everything runs in the caller's thread but compression and uploads; the pipe holds 1 MiB. At the stream's end every process is asked how it ended
before the last part is sent, so a failed dump is never completed; then all that this attempt stored is removed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import cast

from core.errors import NightshiftError, PermanentError, TemporaryError
from core.manifest import StoredPart
from core.pg_commands import may_succeed_later
from tasks.children import PIPE, Child
from tasks.compressed_stream import Capture, CompressedStream, Meter, OnBytes, store_stream
from tasks.head_listing import HeadListing
from tasks.object_store import ObjectStore

# pg_dump writes 4 KiB at a time. A reader that takes each of them wakes 250,000 times a GiB; one that lets the pipe (1 MiB) fill meanwhile takes a third of the
# processor time and never makes pg_dump wait.
FULL_ENOUGH_BYTES, REFILL_SECONDS = 256 * 1024, 0.002
# From the end of a program's output to its own end.
END_SECONDS = 60
WARNINGS_KEPT = 20


@dataclass(frozen=True)
class Streamed:
    """What was stored: its record for the manifest; the archive's listing (of a custom-format dump); the text (when it was asked for); what the program warned of."""

    part: StoredPart
    listing: str = ""
    text: str = ""
    warnings: tuple[str, ...] = ()


def dump_to_store(
    store: ObjectStore,
    backup_folder: str,
    argv: Sequence[str],
    child_environment: Mapping[str, str],
    *,
    on: str,
    name: str,
    relative: str,
    level: int,
    segment_bytes: int,
    on_bytes: OnBytes | None = None,
    listing_argv: Sequence[str] | None = None,
    keep_text: bool = False,
) -> Streamed:
    """Run a program and store its output, compressed.

    Args:
        backup_folder: the backup's folder in the bucket, with a slash at its end.
        argv, child_environment: the program; its environment is exactly this.
        on: what is dumped, for messages ("database app at db.example.com:5432").
        name: what the plain stream is called in the manifest (`dump.pgdump`, `globals.sql`).
        relative: the stream's folder under backup_folder (`dump`, `globals`). It is this attempt's alone: after a failure everything under it is removed.
        level: zstd's level.
        segment_bytes: a further object is begun past this size.
        on_bytes: told (plain, stored) bytes so far, at most twice a second and once at the end.
        listing_argv: `pg_restore --list`, to be shown the stream's head.
        keep_text: also return the output as text (at most 64 MiB).

    Raise TemporaryError or PermanentError with the program's stderr when it fails, or those of ObjectStore.
    """
    meter = Meter(on_bytes)
    try:
        with ExitStack() as context:
            listing = None
            if listing_argv is not None:
                listing = context.enter_context(HeadListing(listing_argv, tool_environment(child_environment)))
            capture = Capture(on) if keep_text else None
            child = context.enter_context(Child(argv, environment=child_environment, stdout=PIPE))
            found: list[str] = []

            def at_end() -> None:
                require_success(child, on)
                if listing is not None:
                    found.append(listing.finish())

            watcher = listing or capture
            stream = CompressedStream(
                lambda view: fill_from(child, view),
                level=level,
                meter=meter,
                see=watcher.see if watcher is not None else None,
                at_end=at_end,
            )
            part = store_stream(store, backup_folder, relative, stream, name=name, segment_bytes=segment_bytes)
            text = capture.content.decode() if capture is not None else ""
        meter.finish()
    except BaseException:
        store.remove_folder(f"{backup_folder}{relative}/")
        raise
    return Streamed(part, "".join(found), text, warnings_of(child))


def fill_from(child: Child, view: memoryview) -> int:
    """Read some of a child's output into a buffer; 0 at its end."""
    # The typed interface of a raw file does not know that memoryviews are writable buffers.
    got = cast("int", child.stdout.readinto(view)) or 0  # type: ignore[attr-defined]
    if 0 < got < FULL_ENOUGH_BYTES:
        time.sleep(REFILL_SECONDS)
    return got


def require_success(child: Child, on: str) -> None:
    """Given a child whose output has ended, wait for it. Raise TemporaryError or PermanentError, with its stderr, when it did not succeed."""
    child.wait(END_SECONDS)
    if failure := child.failure():
        raise child_error(child, failure, on)


def warnings_of(child: Child) -> tuple[str, ...]:
    """Given a child that succeeded, return what it said on stderr all the same, a line each: pg_dump leaves things out with a warning and exit code 0."""
    lines = [line.strip() for line in child.stderr_tail.splitlines() if line.strip()]
    more = [f"and {len(lines) - WARNINGS_KEPT} more lines"] if len(lines) > WARNINGS_KEPT else []
    return tuple(lines[:WARNINGS_KEPT] + more)


def child_error(child: Child, failure: str, on: str) -> NightshiftError:
    """Given how a child failed, return the error to raise."""
    attempted = f"run {child.name}"
    if child.was_stopped:
        return PermanentError(attempted, on, failure, "The run was cancelled, or another part of it failed")
    if may_succeed_later(failure):
        return TemporaryError(attempted, on, failure)
    return PermanentError(
        attempted, on, failure, "Correct this on the server or in the environment's file; nightshift check shows more"
    )


def tool_environment(child_environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a program that connects to no server: what a child is given, without all that libpq reads."""
    return {name: value for name, value in child_environment.items() if not name.startswith("PG")}
