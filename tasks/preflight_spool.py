"""The check of the folder that a dump with several jobs needs on this machine."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from core.checks import Check
from core.environment_database import Database
from core.units import human_bytes
from tasks.spool import free_bytes

MIB = 1024**2


def check_spool(key: str, database: Database) -> Iterator[Check]:
    """Given a database's key and record, say whether its spool can be written and has room beyond the reserve; nothing for a database with one job."""
    if database.jobs == 1:
        return
    name, place = f"{key}: spool", database.spool_directory or tempfile.gettempdir()
    try:
        # A trial rather than a look at modes: a folder may be read-only by its mount, and root is not asked for modes.
        with tempfile.TemporaryDirectory(prefix="nightshift-probe-", dir=place):
            free = free_bytes(Path(place))
    except OSError as error:
        step = f"Make the folder, or correct spool_directory of [databases.{key}]; jobs = 1 needs none"
        yield Check(name=name, state="failed", found=f"{place}: {error.strerror}", next_step=step)
        return
    reserve = database.spool_reserve_mib * MIB
    found = f"{place}: {human_bytes(free)} free, {human_bytes(reserve)} of it in reserve"
    if free <= reserve:
        step = "Free the disk, lower spool_reserve_mib, or name another spool_directory: pg_dump would be held at once"
        yield Check(name=name, state="failed", found=found, next_step=step)
    else:
        yield Check(name=name, state="passed", found=found)
