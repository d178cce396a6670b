"""A `pg_restore` that decodes an archive to its end, and the rows that it prints."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from types import TracebackType

from core.copy_rows import CopyRows, TableName
from core.errors import IntegrityError, PermanentError
from tasks.children import PIPE, Child

READ_BYTES = 1024 * 1024
END_SECONDS = 300
# It connects to no server and reads no secret.
ENVIRONMENT = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}


class RowCounter:
    """A running pg_restore whose output is counted, table by table, by a thread. Use it as a context manager."""

    def __init__(self, argv: Sequence[str]) -> None:
        """Given the command line, start it."""
        self.child = Child(argv, environment=ENVIRONMENT, stdin=PIPE, stdout=PIPE)
        self.gave_up = False
        self._rows = CopyRows()
        self._error: ValueError | None = None
        self._thread = threading.Thread(target=self._count, name="rows of pg_restore", daemon=True)
        self._thread.start()

    def write(self, block: memoryview) -> None:
        """Give it a block of the archive by its stdin. When it has hung up `gave_up` is set: `finish` tells why."""
        self.write_to(self.child.stdin.fileno(), block)

    def write_to(self, descriptor: int, block: memoryview) -> None:
        """As `write`, by another pipe that it reads."""
        try:
            while block:
                block = block[os.write(descriptor, block) :]
        except BrokenPipeError:
            self.gave_up = True

    def finish(self, where: str) -> dict[TableName, int]:
        """Tell that the archive has ended; return the rows of each table. Raise IntegrityError when pg_restore did not read it all without an error."""
        self.child.stdin.close()
        self._thread.join()
        self.child.wait(END_SECONDS)
        if failure := self.child.failure():
            if self.child.was_stopped:
                raise PermanentError("decode the backup", where, failure, "The run was cancelled")
            raise IntegrityError("decode the backup", where, failure)
        if self.gave_up:
            raise IntegrityError("decode the backup", where, "pg_restore stopped before the archive's end")
        if self._error is not None:
            raise IntegrityError("decode the backup", where, f"pg_restore's output: {self._error}") from self._error
        return self._rows.rows

    def __enter__(self) -> RowCounter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.child.stop()
        self._thread.join()
        self.child.close()

    def _count(self) -> None:
        try:
            while block := self.child.stdout.read(READ_BYTES):
                if self._error is None:
                    self._feed(block)
            if self._error is None:
                self._rows.finish()
        except ValueError as error:
            self._error = error

    def _feed(self, block: bytes) -> None:
        try:
            self._rows.feed(block)
        except ValueError as error:
            # Reading goes on: pg_restore must not be blocked by our mistake.
            self._error = error
