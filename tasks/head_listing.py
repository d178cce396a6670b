"""An archive's table of contents: of a stream, taken from its head while it passes (`pg_restore --list` reads that and hangs up), or of a folder."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType

from core.errors import PermanentError
from tasks.children import PIPE, Child

BACKLOG_BYTES = 16 * 1024 * 1024
# How long the stream may be held up in all by a reader that does not read. It needs some tenths of a second for a table of contents of 10 MB.
PATIENCE_SECONDS = 60.0
READ_BYTES = 256 * 1024
END_SECONDS = 60


def list_folder(
    argv: Sequence[str], environment: Mapping[str, str], *, on: str, error: type[PermanentError] = PermanentError
) -> str:
    """Given the command line of `pg_restore --list` with a folder, return what it prints. Raise `error` when it fails."""
    with Child(argv, environment=environment, stdout=PIPE) as child:
        listing = bytearray()
        while block := child.stdout.read(READ_BYTES):
            listing += block
        child.wait(END_SECONDS)
        if failure := child.failure():
            raise (PermanentError if child.was_stopped else error)("list the archive", on, failure)
    return listing.decode(errors="replace")


class HeadListing:
    """A running `pg_restore --list` that is shown the stream's blocks until it has read enough. Use it as a context manager."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        """Given the command line, start it."""
        self._child = Child(argv, environment=environment, stdin=PIPE, stdout=PIPE)
        self._blocks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._patience = PATIENCE_SECONDS
        self._wanted = True
        self._ended = False
        self._changed = threading.Condition()
        self._output = bytearray()
        self._threads = [
            threading.Thread(target=target, name=f"{target.__name__} of pg_restore --list", daemon=True)
            for target in (self._write, self._read)
        ]
        for thread in self._threads:
            thread.start()

    def see(self, block: memoryview) -> None:
        """Take a block, unless no more is wanted. Raise PermanentError when pg_restore has held up the stream for a minute in all."""
        if not self._wanted:
            return
        with self._changed:
            began = time.monotonic()
            go_on = self._changed.wait_for(
                lambda: not self._wanted or self._waiting_bytes < BACKLOG_BYTES, timeout=self._patience
            )
            self._patience -= time.monotonic() - began
            if not go_on:
                found = f"it held up the dump for {PATIENCE_SECONDS:.0f} s in all"
                raise PermanentError("list the archive", "pg_restore --list", found)
            if self._wanted:
                self._blocks.append(bytes(block))
                self._waiting_bytes += len(block)
                self._changed.notify_all()

    def finish(self) -> str:
        """Tell that the stream has ended, and return the listing. Raise PermanentError when pg_restore could not read the archive's head."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(END_SECONDS)
        self._child.wait(END_SECONDS)
        if failure := self._child.failure():
            raise PermanentError(
                "list the archive", "the stream of pg_dump", failure, "The dump is not usable; see pg_dump's version"
            )
        return self._output.decode(errors="replace")

    def __enter__(self) -> HeadListing:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._child.stop()
        with self._changed:
            self._wanted = False
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._child.close()

    def _next(self) -> bytes:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._blocks) or self._ended)
            if not self._blocks:
                return b""
            block = self._blocks.popleft()
            self._waiting_bytes -= len(block)
            self._changed.notify_all()
            return block

    def _write(self) -> None:
        try:
            while block := self._next():
                rest = memoryview(block)
                while rest:
                    rest = rest[self._child.stdin.write(rest) :]
        except BrokenPipeError:
            pass  # it has read enough, or has died: its exit code tells
        finally:
            with self._changed:
                self._wanted = False
                self._blocks.clear()
                self._changed.notify_all()
            self._child.stdin.close()

    def _read(self) -> None:
        while block := self._child.stdout.read(READ_BYTES):
            self._output += block
