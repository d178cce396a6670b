"""What a process list shows while something runs: every process's arguments on this machine, looked at all the time, those of programs that last a moment included."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

_PAUSE_SECONDS = 0.005
Seen = tuple[int, str]


class ProcessList:
    """`seen`: process id and arguments. Arguments change with exec and by PostgreSQL, hence each look reads all of them."""

    def __init__(self) -> None:
        self.seen: set[Seen] = set()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="process-list", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._done.set()
        self._thread.join()

    def commands(self) -> str:
        """All that was seen, a process a line; those of the test itself left out."""
        return "\n".join(arguments for number, arguments in tuple(self.seen) if number != os.getpid())

    def _watch(self) -> None:
        while not self._done.wait(_PAUSE_SECONDS):
            for number in psutil.pids():
                with suppress(OSError):
                    arguments = Path(f"/proc/{number}/cmdline").read_bytes()
                    self.seen.add((number, arguments.replace(b"\0", b" ").decode(errors="replace")))


@pytest.fixture
def process_list() -> Iterator[ProcessList]:
    """Watched from here on."""
    found = ProcessList()
    yield found
    found.close()
