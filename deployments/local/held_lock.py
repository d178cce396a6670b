"""A lock on a file that says which process holds it: it is let go with that process, however it ends."""

import fcntl
import os
from pathlib import Path


class HeldError(Exception):
    """Another process has the lock. `holder`: its process id, or "unknown"."""

    def __init__(self, holder: str) -> None:
        super().__init__(f"held by process {holder}")
        self.holder = holder


def take_lock(path: Path) -> int:
    """Lock a file, and write this process's id into it; return the descriptor, whose closing lets go, as an exec does. Raise HeldError at once when another has it."""
    lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.read(lock, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock)
        raise HeldError(holder) from error
    os.ftruncate(lock, 0)
    os.write(lock, f"{os.getpid()}\n".encode())
    return lock
