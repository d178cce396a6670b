"""A stored dump's table of contents: of one that lies on the disk, or of a stream's head, without fetching the rest."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from core.errors import IntegrityError, PermanentError
from core.manifest import StoredPart
from core.restore_command import pg_restore_contents_command
from core.restore_listing import Listed, parse_contents
from tasks.children import PIPE, Child
from tasks.clients import Clients
from tasks.head_listing import list_folder
from tasks.row_counter import ENVIRONMENT
from tasks.stored_stream import Source, read_part

_LIST_SECONDS = 60
_LISTING_BYTES = 1024 * 1024


class _Enough(Exception):  # noqa: N818 - never leaves this module
    """pg_restore has read the head."""


def list_archive(source: Source, path: Path, clients: Clients) -> Listed:
    """Given a dump on the disk, file or folder, return its table of contents. Raise IntegrityError when it cannot be read."""
    command = pg_restore_contents_command(str(clients.pg_restore), str(path))
    return _parse(list_folder(command, ENVIRONMENT, on=source.where, error=IntegrityError), source)


def list_head(source: Source, part: StoredPart, clients: Clients) -> Listed:
    """Given a custom-format dump in S3, return its table of contents: pg_restore is fed until it has read that at the archive's head, then S3 is hung up on.

    Raise IntegrityError when it cannot be read, and as `read_part`.
    """

    def write(block: memoryview) -> None:
        try:
            write_all(child.stdin.fileno(), block)
        except BrokenPipeError:
            raise _Enough from None

    command = pg_restore_contents_command(str(clients.pg_restore))
    listing = bytearray()
    with Child(command, environment=ENVIRONMENT, stdin=PIPE, stdout=PIPE) as child, ThreadPoolExecutor(1) as pool:
        # Its answer is read beside: a long one would fill the pipe while we still write.
        reading = pool.submit(_read_all, child, listing)
        try:
            read_part(source, part, write)
        except _Enough:
            pass
        finally:
            child.stdin.close()
            reading.result(_LIST_SECONDS)
        child.wait(_LIST_SECONDS)
        if failure := child.failure():
            raise (PermanentError if child.was_stopped else IntegrityError)("list the archive", source.where, failure)
    return _parse(listing.decode(errors="replace"), source)


def write_all(descriptor: int, block: memoryview) -> None:
    """Write a block to the end, however little is taken at a time. Raise OSError."""
    while block:
        block = block[os.write(descriptor, block) :]


def _read_all(child: Child, into: bytearray) -> None:
    while block := child.stdout.read(_LISTING_BYTES):
        into += block


def _parse(listing: str, source: Source) -> Listed:
    try:
        return parse_contents(listing)
    except ValueError as error:
        raise IntegrityError("list the archive", source.where, str(error)) from error
