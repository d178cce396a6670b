"""How much room a disk must have, for what nightshift writes on this machine: spools and scratch servers, and the data of its own server."""

from collections.abc import Sequence
from typing import Literal

from core.checks import Check
from core.units import human_bytes

MIB = 1024**2
# With less, a Prefect server on SQLite goes on answering, and no run begins any more; nor can a scratch server be made (its empty cluster alone takes some 40 MiB).
LEAST_ROOM = 64 * MIB
State = Literal["passed", "warning", "failed"]


def is_full(free: int) -> bool:
    """Given the free bytes of a disk, return whether nothing goes on that writes to it."""
    return free < LEAST_ROOM


def room_state(free: int, ample: int) -> State:
    """Given the free bytes of a disk and how many are ample, return how it stands."""
    if is_full(free):
        return "failed"
    return "warning" if free < ample else "passed"


def room_check(name: str, place: str, free: int, ample: int, *, writers: Sequence[str], next_step: str) -> Check:
    """Given a folder, the free bytes of its disk, how many are ample and who writes there, return the check of it, with the figures."""
    state = room_state(free, ample)
    told = f"{place}: {human_bytes(free)} free"
    if state == "failed":
        told += f"; below {human_bytes(LEAST_ROOM)} there is no room for {' and '.join(writers)}"
    elif state == "warning":
        told += f"; below {human_bytes(ample)} {' and '.join(writers)} may not find room"
    return Check(name=name, state=state, found=told, next_step=next_step if state != "passed" else "")
