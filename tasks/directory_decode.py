"""Decoding a directory-format backup without a copy of it on disk.

pg_restore is given a folder in which `toc.dat` and the lists of large objects are files and every data file is a named pipe. It opens the pipes in the
order of its table of contents, and each is fed from S3 as it is opened. So the same program that would restore reads every file to its end, as it
would from disk; the folder holds only what is small.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from core.copy_rows import TableName
from core.errors import IntegrityError
from core.manifest import StoredPart
from core.pg_commands import pg_restore_decode_command, pg_restore_list_command
from tasks.children import enlarge_pipe
from tasks.head_listing import list_folder
from tasks.row_counter import ENVIRONMENT, RowCounter
from tasks.stored_stream import Source, read_part

TABLE_OF_CONTENTS = "toc.dat"
# pg_restore opens the next file as soon as it has printed the one before.
OPEN_SECONDS = 120
_FILE_NAME = re.compile(r"[A-Za-z0-9_]+\.(dat|toc)")
_DATA_ENTRY = re.compile(r"^(\d+); \d+ \d+ (TABLE DATA|BLOBS) ", re.MULTILINE)


def count_directory(source: Source, parts: Sequence[StoredPart], program: str) -> dict[TableName, int]:
    """Given the parts of a directory-format archive and pg_restore's path, read all back, decode it, and return the rows of each table.

    Raise IntegrityError naming the part or file that is missing, not in the table of contents, or not what was recorded.
    """
    where = source.where
    by_name = {part.name: part for part in parts}
    _require_good_names(by_name, where)
    with tempfile.TemporaryDirectory(prefix="nightshift-decode-") as name:
        folder = Path(name)
        for part in parts:
            if part.name.endswith(".toc") or part.name == TABLE_OF_CONTENTS:
                _fetch(source, part, folder / part.name)
            else:
                os.mkfifo(folder / part.name, 0o600)
        listing = list_folder(
            pg_restore_list_command(program, str(folder)), ENVIRONMENT, on=where, error=IntegrityError
        )
        files = list(_files_in_order(folder, listing, where))
        _require_same_files(files, by_name, where)
        with RowCounter(pg_restore_decode_command(program, str(folder))) as counter:
            for file in files:
                _feed(source, by_name[file], counter, folder / file)
            return counter.finish(where)


def _require_good_names(by_name: Mapping[str, StoredPart], where: str) -> None:
    if bad := [name for name in by_name if not _FILE_NAME.fullmatch(name)]:
        raise IntegrityError("decode the backup", where, f"no file of a directory-format archive: {bad[0]!r}")
    if TABLE_OF_CONTENTS not in by_name:
        raise IntegrityError("decode the backup", where, f"{TABLE_OF_CONTENTS} is missing")


def _require_same_files(files: Sequence[str], by_name: Mapping[str, StoredPart], where: str) -> None:
    data = {name for name in by_name if name.endswith(".dat") and name != TABLE_OF_CONTENTS}
    if missing := [name for name in files if name not in data]:
        raise IntegrityError(
            "decode the backup", where, f"{missing[0]} is in the table of contents and not in the manifest"
        )
    if surplus := sorted(data - set(files)):
        raise IntegrityError(
            "decode the backup", where, f"{surplus[0]} is in the manifest and not in the table of contents"
        )


def _fetch(source: Source, part: StoredPart, path: Path) -> None:
    with path.open("wb") as file:
        read_part(source, part, file.write)


def _files_in_order(folder: Path, listing: str, where: str) -> Iterator[str]:
    """The data files as pg_restore opens them: a table's is DUMP_ID.dat; a list of large objects names one file each."""
    for number, kind in _DATA_ENTRY.findall(listing):
        if kind == "TABLE DATA":
            yield f"{number}.dat"
            continue
        # From PostgreSQL 17 on there are several lists, each named after its entry.
        lists = [name for name in (f"blobs_{number}.toc", "blobs.toc") if (folder / name).exists()]
        if not lists:
            raise IntegrityError("decode the backup", where, f"the list of large objects of entry {number} is missing")
        for line in (folder / lists[0]).read_text().splitlines():
            yield line.split(" ", 1)[1]


def _feed(source: Source, part: StoredPart, counter: RowCounter, path: Path) -> None:
    descriptor = _open_when_wanted(path, counter)
    try:
        # Once pg_restore has given up, the rest is read for its checksums alone: they say more than its last words.
        read_part(source, part, lambda block: counter.write_to(descriptor, block), lambda: not counter.gave_up)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    path.unlink()


def _open_when_wanted(path: Path, counter: RowCounter) -> int:
    """Open a named pipe as soon as pg_restore does; -1 when pg_restore has ended."""
    deadline = time.monotonic() + OPEN_SECONDS
    pause = 0.0001
    while not counter.gave_up and counter.child.running:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            os.set_blocking(descriptor, True)
            enlarge_pipe(descriptor)
            return descriptor
        if time.monotonic() > deadline:
            raise IntegrityError("decode the backup", path.name, f"pg_restore did not open it within {OPEN_SECONDS} s")
        time.sleep(pause)
        pause = min(pause * 2, 0.01)
    counter.gave_up = True
    return -1
