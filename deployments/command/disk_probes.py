"""What `nightshift check` looks at of this machine's disks: where restores and drills write, and where the server of this machine keeps its data."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from core.checks import Check
from core.disk_room import MIB, room_check
from core.environment import Environment
from deployments.command.probe import Probe
from deployments.local.data_folder import data_root
from tasks.spool import free_bytes

DRILLS, DATA = "disk: restores and drills", "disk: this machine's server"
# A copy of the server's database is made at each start, fourteen are kept, and its log grows.
_AMPLE_DATA_BYTES = 512 * MIB


def disk_probes(environment: Environment) -> list[Probe]:
    """Given an environment, return what is tried of this machine's disks."""
    found = [Probe(DRILLS, partial(_look_at_work_folder, environment))]
    if data_root().is_dir():
        found.append(Probe(DATA, _look_at_data))
    return found


def _look_at_work_folder(environment: Environment) -> Iterator[Check]:
    restore = environment.restore
    place = restore.spool_directory or tempfile.gettempdir()
    embedded = environment.drill.scratch == "embedded"
    try:
        # A trial: a folder may be read-only by its mount, or out of inodes.
        with tempfile.TemporaryDirectory(prefix="nightshift-probe-", dir=place):
            free = free_bytes(Path(place))
    except OSError as error:
        step = "Make the folder and room in it, or correct restore.spool_directory"
        yield Check(name=DRILLS, state="failed", found=f"{place}: {error.strerror}", next_step=step)
        return
    yield room_check(
        DRILLS,
        place,
        free,
        restore.spool_reserve_mib * MIB,
        writers=["a fetched dump", *(["a drill's scratch server"] if embedded else [])],
        next_step="Make room, or name another disk in restore.spool_directory; it takes a fetched dump"
        + (" and the restored copy" if embedded else ""),
    )


def _look_at_data() -> Iterator[Check]:
    place = data_root()
    yield room_check(
        DATA,
        str(place),
        free_bytes(place),
        _AMPLE_DATA_BYTES,
        writers=["what the server and its runs save"],
        next_step="Make room, or move it: NIGHTSHIFT_DATA",
    )
