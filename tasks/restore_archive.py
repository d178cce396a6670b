"""The dump's way from S3 into the new database: fetched to disk and checked first, then pg_restore; or streamed where the disk is too small for that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from core.environment import Database
from core.errors import IntegrityError, PermanentError, TemporaryError
from core.manifest import Archive, StoredPart
from core.restore_command import (
    harmless,
    may_pass,
    pg_restore_command,
    pg_restore_contents_command,
    pg_restore_script_command,
)
from core.restore_listing import Choice, Listed, parse_contents
from core.restore_passes import in_passes, postponed_indexes
from core.units import human_bytes
from tasks.children import PIPE, Child
from tasks.clients import Clients
from tasks.compressed_stream import Capture
from tasks.head_listing import list_folder
from tasks.postgres import describe, libpq_environment, translated
from tasks.restored_session import connect_to_copy
from tasks.row_counter import ENVIRONMENT
from tasks.spool import free_bytes
from tasks.stored_stream import Source, read_part

# pg_dump's directory format (pg_backup_directory.c).
_CONTENTS = "toc.dat"
_FETCH_THREADS = 4
_LIST_SECONDS = 60
_LISTING_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Fetched:
    """A dump that is ready to be restored. `path` is the file or folder on disk, None when it is to be streamed; `left` is how many of its files were not needed."""

    path: Path | None
    choice: Choice
    left: int = 0


@dataclass(frozen=True)
class Restoring:
    """What pg_restore works with: which one, into which database, of which major, and where its list file is written."""

    clients: Clients
    login: Database
    server_major: int
    list_file: Path
    application_name: str


class _Enough(Exception):  # noqa: N818 - never leaves this module
    """pg_restore has read the head."""


def fetch_globals(source: Source, part: StoredPart) -> bytes:
    """Given the backup's folder and the globals' record, return pg_dumpall's output, every checksum compared. Raise as `read_part`."""
    capture = Capture("the globals")
    read_part(source, part, capture.see)
    return bytes(capture.content)


def fetch_archive(
    source: Source,
    archive: Archive,
    folder: Path,
    clients: Clients,
    choose: Callable[[Listed], Choice],
    *,
    only_chosen: bool = False,
    reserve_bytes: int,
    free: Callable[[Path], int] = free_bytes,
) -> Fetched:
    """Given the backup's folder in the bucket and an empty one on disk, fetch the dump, every checksum compared, and choose by its table of contents what to restore.

    Where less than its plain bytes and the reserve are free, a custom-format archive is not fetched but for its head: it is to be streamed. `only_chosen`: of a
    directory-format archive fetch the chosen tables' files alone; the others are neither read nor checked. Raise PermanentError when a directory-format one has no
    room, or the disk is full in the middle; IntegrityError and TemporaryError as `read_part`; and what `choose` raises.
    """
    if archive.format == "directory":
        return _fetch_directory(
            source, archive, folder / "archive", clients, choose, only_chosen, lambda: free(folder) - reserve_bytes
        )
    if len(archive.parts) != 1:
        raise IntegrityError("fetch the dump", source.where, f"a custom-format archive has {len(archive.parts)} parts")
    if free(folder) < archive.parts[0].plain_bytes + reserve_bytes:
        return Fetched(None, choose(_parse(_list_head(source, archive.parts[0], clients), source)))
    path = folder / "dump.pgdump"
    _fetch(source, archive.parts[0], path)
    return Fetched(path, choose(_list(source, path, clients)))


def look_at_archive(
    source: Source,
    archive: Archive,
    folder: Path,
    clients: Clients,
    choose: Callable[[Listed], Choice],
    *,
    only_chosen: bool = False,
    reserve_bytes: int,
    free: Callable[[Path], int] = free_bytes,
) -> Choice:
    """As `fetch_archive`, but only the table of contents is fetched: return what a restore would take, and refuse what it would refuse before the rows come."""
    if archive.format == "directory":
        path = folder / "archive"
        choice, _, _ = _directory_contents(
            source, archive, path, clients, choose, only_chosen, lambda: free(folder) - reserve_bytes
        )
        return choice
    if len(archive.parts) != 1:
        raise IntegrityError("fetch the dump", source.where, f"a custom-format archive has {len(archive.parts)} parts")
    return choose(_parse(_list_head(source, archive.parts[0], clients), source))


def _fetch_directory(  # noqa: PLR0917 - fetch_archive's own
    source: Source,
    archive: Archive,
    path: Path,
    clients: Clients,
    choose: Callable[[Listed], Choice],
    only_chosen: bool,
    room: Callable[[], int],
) -> Fetched:
    choice, wanted, left = _directory_contents(source, archive, path, clients, choose, only_chosen, room)
    _fetch_files(source, wanted, path)
    return Fetched(path, choice, left=left)


def _directory_contents(  # noqa: PLR0917 - fetch_archive's own
    source: Source,
    archive: Archive,
    path: Path,
    clients: Clients,
    choose: Callable[[Listed], Choice],
    only_chosen: bool,
    room: Callable[[], int],
) -> tuple[Choice, Sequence[StoredPart], int]:
    """The table of contents first, since it tells which of the other files are needed: a table's rows are in DUMP_ID.dat (pg_backup_directory.c).

    Return the choice, the files to fetch, and how many are not needed.
    """
    for part in archive.parts:
        if Path(part.name).name != part.name:
            raise IntegrityError("fetch the dump", source.where, f"no file's name: {part.name!r}")
    contents = tuple(part for part in archive.parts if part.name == _CONTENTS)
    others = tuple(part for part in archive.parts if part.name != _CONTENTS)
    _require_room(path.parent, contents if only_chosen else archive.parts, room())
    path.mkdir()
    _fetch_files(source, contents, path)
    choice = choose(_list(source, path, clients))
    needed = {f"{number}.dat" for number in choice.data}
    if missing := sorted(needed - {part.name for part in others}):
        found = f"{missing[0]} is in the table of contents and not in the manifest"
        raise IntegrityError("fetch the dump", source.where, found, "Do not rely on it")
    wanted = tuple(part for part in others if part.name in needed) if only_chosen else others
    _require_room(path.parent, wanted, room())
    return choice, wanted, len(others) - len(wanted)


def _require_room(folder: Path, parts: Sequence[StoredPart], room: int) -> None:
    """Raise PermanentError unless the parts fit into so many bytes."""
    needed = sum(part.plain_bytes for part in parts)
    if room < needed:
        found = f"{human_bytes(max(0, room))} are free beside the reserve, {human_bytes(needed)} are needed"
        raise _no_room(folder, found)


def restore_fetched(restoring: Restoring, source: Source, path: Path, choice: Choice, jobs: int) -> None:
    """Given a dump on disk and what of it is wanted, restore that with so many jobs. Raise PermanentError or TemporaryError with pg_restore's own words."""
    for list_text in _passes(restoring, source, path, choice) if jobs > 1 else (choice.list_text,):
        restoring.list_file.write_text(list_text)
        with _pg_restore(restoring, str(path), jobs) as child:
            child.wait()
            _judge(child, restoring)


def _passes(restoring: Restoring, source: Source, path: Path, choice: Choice) -> tuple[str, ...]:
    """What each pass restores, so that no two jobs wait for each other."""
    program = str(restoring.clients.pg_restore)
    script = list_folder(
        pg_restore_script_command(program, str(path)), ENVIRONMENT, on=source.where, error=IntegrityError
    )
    postponed = postponed_indexes(script)
    return in_passes(_list(source, path, restoring.clients), choice, postponed) if postponed else (choice.list_text,)


def restore_streamed(restoring: Restoring, source: Source, part: StoredPart, choice: Choice) -> None:
    """Given a custom-format dump in S3 and what of it is wanted, restore that with one job. Raise as `restore_fetched`, and IntegrityError when a checksum differs.

    That is known only at the end, with all restored: then the database is not to be used.
    """
    gave_up = False
    restoring.list_file.write_text(choice.list_text)

    def write(block: memoryview) -> None:
        nonlocal gave_up
        try:
            while block:
                block = block[os.write(child.stdin.fileno(), block) :]
        except BrokenPipeError:
            # It failed, or it needs no more: the rest is read for its checksums, which say more than its last words.
            gave_up = True

    with _pg_restore(restoring) as child:
        read_part(source, part, write, lambda: not gave_up)
        child.stdin.close()
        child.wait()
        _judge(child, restoring)


def analyze(login: Database) -> None:
    """Collect the planner's statistics of a database, which a dump does not hold. Raise TemporaryError or PermanentError."""
    with (
        closing(connect_to_copy(login, application_name="nightshift analyze")) as session,
        translated("analyze the new database", describe(login)),
    ):
        session.execute("ANALYZE")


def _pg_restore(restoring: Restoring, archive: str = "", jobs: int = 1) -> Child:
    command = pg_restore_command(
        str(restoring.clients.pg_restore),
        list_file=str(restoring.list_file),
        archive=archive,
        jobs=jobs,
        client_major=restoring.clients.major,
        server_major=restoring.server_major,
    )
    environment = libpq_environment(restoring.login, application_name=restoring.application_name)
    if not archive:
        return Child(command, environment=environment, stdin=PIPE)
    return Child(command, environment=environment, workers=jobs > 1)


def _judge(child: Child, restoring: Restoring) -> None:
    failure = child.failure()
    majors = {"client_major": restoring.clients.major, "server_major": restoring.server_major}
    # It has ended: this does not wait.
    if failure is None or harmless(child.wait(), child.stderr_tail, **majors):
        return
    if child.was_stopped:
        raise PermanentError("restore the dump", describe(restoring.login), failure, "The run was cancelled")
    kind = TemporaryError if may_pass(failure) else PermanentError
    raise kind("restore the dump", describe(restoring.login), failure)


def _fetch(source: Source, part: StoredPart, path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            read_part(source, part, lambda block: _write_all(file.fileno(), block))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise TemporaryError("spool the dump", str(path.parent), str(error.strerror)) from error
        raise _no_room(
            path.parent, f"the disk was full before all {human_bytes(part.plain_bytes)} were there"
        ) from error


def _write_all(descriptor: int, block: memoryview) -> None:
    while block:
        block = block[os.write(descriptor, block) :]


def _fetch_files(source: Source, parts: Sequence[StoredPart], folder: Path) -> None:
    pool = ThreadPoolExecutor(_FETCH_THREADS, thread_name_prefix="fetch")
    try:
        futures = [pool.submit(_fetch, source, part, folder / part.name) for part in parts]
        for future in futures:
            future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _no_room(folder: Path, found: str) -> PermanentError:
    return PermanentError(
        "spool the dump", str(folder), found, "Free some space, or name another disk in restore.spool_directory"
    )


def _list_head(source: Source, part: StoredPart, clients: Clients) -> str:
    """Feed pg_restore until it has read the table of contents at the archive's head, and hang up on S3."""

    def write(block: memoryview) -> None:
        try:
            _write_all(child.stdin.fileno(), block)
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
    return listing.decode(errors="replace")


def _read_all(child: Child, into: bytearray) -> None:
    while block := child.stdout.read(_LISTING_BYTES):
        into += block


def _list(source: Source, path: Path, clients: Clients) -> Listed:
    command = pg_restore_contents_command(str(clients.pg_restore), str(path))
    return _parse(list_folder(command, ENVIRONMENT, on=source.where, error=IntegrityError), source)


def _parse(listing: str, source: Source) -> Listed:
    try:
        return parse_contents(listing)
    except ValueError as error:
        raise IntegrityError("list the archive", source.where, str(error)) from error
