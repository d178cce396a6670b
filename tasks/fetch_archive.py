"""The dump's way from S3 to the disk, every checksum compared, and what of it is to be restored; or its head alone, where it is to be streamed or only planned with."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core.errors import DamageError, IntegrityError, PermanentError, TemporaryError
from core.manifest import Archive, StoredPart
from core.restore_listing import Choice, Listed
from core.units import human_bytes
from tasks.archive_contents import list_archive, list_head, write_all
from tasks.clients import Clients
from tasks.compressed_stream import Capture
from tasks.spool import free_bytes
from tasks.stored_stream import Source, read_part

# pg_dump's directory format (pg_backup_directory.c).
_CONTENTS = "toc.dat"
_FETCH_THREADS = 4


@dataclass(frozen=True)
class Fetched:
    """A dump that is ready to be restored. `path` is the file or folder on disk, None when it is to be streamed; `left` is how many of its files were not needed."""

    path: Path | None
    choice: Choice
    left: int = 0


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
        return Fetched(None, choose(list_head(source, archive.parts[0], clients)))
    path = folder / "dump.pgdump"
    _fetch(source, archive.parts[0], path)
    return Fetched(path, choose(list_archive(source, path, clients)))


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
    return choose(list_head(source, archive.parts[0], clients))


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
    choice = choose(list_archive(source, path, clients))
    needed = {f"{number}.dat" for number in choice.data}
    if missing := sorted(needed - {part.name for part in others}):
        found = f"{missing[0]} is in the table of contents and not in the manifest"
        raise DamageError("fetch the dump", source.where, found, "Do not rely on it")
    wanted = tuple(part for part in others if part.name in needed) if only_chosen else others
    _require_room(path.parent, wanted, room())
    return choice, wanted, len(others) - len(wanted)


def _require_room(folder: Path, parts: Sequence[StoredPart], room: int) -> None:
    """Raise PermanentError unless the parts fit into so many bytes."""
    needed = sum(part.plain_bytes for part in parts)
    if room < needed:
        found = f"{human_bytes(max(0, room))} are free beside the reserve, {human_bytes(needed)} are needed"
        raise _no_room(folder, found)


def _fetch(source: Source, part: StoredPart, path: Path) -> None:
    try:
        with path.open("wb", buffering=0) as file:
            read_part(source, part, lambda block: write_all(file.fileno(), block))
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}:
            raise TemporaryError("spool the dump", str(path.parent), str(error.strerror)) from error
        raise _no_room(
            path.parent, f"the disk was full before all {human_bytes(part.plain_bytes)} were there"
        ) from error


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
