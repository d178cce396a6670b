"""Child processes that end with us: own stdio, an environment given in full, stderr kept, all of them stoppable at once.

PR_SET_PDEATHSIG (see tasks.child_guard) is sent when the *thread* that started the child ends, not the process (prctl(2)). A task's thread may
end before its process does, so every child is started by one thread that lives as long as this process.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, cast

from core.errors import PermanentError, TemporaryError
from core.redaction import redact, redact_end

DEVNULL, PIPE = subprocess.DEVNULL, subprocess.PIPE
PIPE_BYTES = 1024 * 1024
STDERR_TAIL_BYTES = 16 * 1024
# A message holds the end of stderr; the whole tail is in `stderr_tail`.
MESSAGE_CHARACTERS = 2000
KILL_SECONDS = 10
GUARD_SIGNALS = {signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
_GUARD = str(Path(__file__).with_name("child_guard.py"))

_lock = threading.Lock()
_running: set[Child] = set()


@cache
def _starter(_pid: int) -> ThreadPoolExecutor:
    """The thread that starts children; one a process (a fork has none of its parent's threads)."""
    return ThreadPoolExecutor(1, thread_name_prefix="child-starter")


def _start(command: list[str], blocked: set[signal.Signals], arguments: dict[str, Any]) -> subprocess.Popen[bytes]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    try:
        return subprocess.Popen(command, stderr=PIPE, cwd="/", bufsize=0, start_new_session=True, **arguments)
    except OSError as error:
        raise TemporaryError("start a program", command[6], str(error.strerror)) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Child:
    """A running command. Use it as a context manager: whatever happens in the block, it has ended and been waited for after it."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdin: int | BinaryIO = DEVNULL,
        stdout: int | BinaryIO = DEVNULL,
        workers: bool = False,
    ) -> None:
        """Start a command.

        Args:
            argv: the program, as an absolute path, and its arguments. Never a secret: everybody can read them.
            environment: the whole environment of the command; nothing is inherited.
            stdin, stdout: DEVNULL, PIPE, or an open file.
            workers: the command forks; stopping, pausing and our own death reach its whole process group.

        Raise PermanentError when the program is not there, TemporaryError when the system cannot start one more.
        """
        self.name = Path(argv[0]).name
        self.was_stopped = False
        self._workers = workers
        self._tail = bytearray()
        self._cut = False
        if not os.access(argv[0], os.X_OK):
            raise PermanentError("start a program", argv[0], "it is not there or not executable")
        mode = "keep" if workers else "exec"
        command = [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), mode, *argv]
        arguments: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "env": dict(environment)}
        # What is blocked stays so across fork and execve: a signal to a guard that is still starting waits for it.
        blocked = GUARD_SIGNALS if workers else set()
        self._process: subprocess.Popen[bytes] = (
            _starter(os.getpid()).submit(_start, command, blocked, arguments).result()
        )
        with _lock:
            _running.add(self)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                enlarge_pipe(pipe.fileno())
        self._stderr_thread = threading.Thread(target=self._keep_stderr, name=f"stderr of {self.name}", daemon=True)
        self._stderr_thread.start()

    @property
    def pid(self) -> int:
        """Its process id (of the guard, when it has workers)."""
        return self._process.pid

    @property
    def stdin(self) -> BinaryIO:
        """The writing end of its stdin, unbuffered; only with PIPE."""
        return cast("BinaryIO", self._process.stdin)

    @property
    def stdout(self) -> BinaryIO:
        """The reading end of its stdout, unbuffered; only with PIPE."""
        return cast("BinaryIO", self._process.stdout)

    @property
    def stderr_tail(self) -> str:
        """The last 16 KiB of its stderr so far, without secrets."""
        told = self._tail.decode(errors="replace")
        return redact_end(told) if self._cut else redact(told)

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end, at most so many seconds, and return its exit code (negative: the signal that ended it).

        Raise TemporaryError when it has not ended by then.
        """
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise TemporaryError("wait for a program", self.name, f"it has not ended after {seconds:.0f} s") from error
        # Whoever else holds its stderr would keep the thread; what is needed of it has been read by then.
        self._stderr_thread.join(KILL_SECONDS)
        return code

    def failure(self) -> str | None:
        """Given that it has ended: None when it succeeded, else one sentence with how it ended and the end of its stderr."""
        code = self._process.returncode
        if code == 0:
            return None
        if self.was_stopped:
            return f"{self.name} was stopped"
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"ended with exit code {code}"
        said = self.stderr_tail.strip()[-MESSAGE_CHARACTERS:]
        return f"{self.name} {how}" + (f": {said}" if said else "")

    def stop(self) -> None:
        """Kill it (and its workers) now, without waiting. The reader of its output meets its end, and then its failure."""
        if self.running:
            self.was_stopped = True
            # The guard of workers kills them all; it would leave them if it was killed itself.
            self._process.send_signal(signal.SIGTERM if self._workers else signal.SIGKILL)

    def pause(self) -> None:
        """Stop it and its workers (SIGSTOP) until `resume`; only with workers."""
        self._process.send_signal(signal.SIGUSR1)

    def resume(self) -> None:
        """Let it and its workers go on (SIGCONT)."""
        self._process.send_signal(signal.SIGUSR2)

    def close(self) -> None:
        """Stop it if it runs, wait for it, close its pipes."""
        self.stop()
        try:
            self.wait(KILL_SECONDS)
        except TemporaryError:
            self._process.kill()
            self.wait(KILL_SECONDS)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
        with _lock:
            _running.discard(self)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _keep_stderr(self) -> None:
        pipe = cast("BinaryIO", self._process.stderr)
        while block := pipe.read(65536):
            self._tail += block
            self._cut = self._cut or len(self._tail) > STDERR_TAIL_BYTES
            del self._tail[:-STDERR_TAIL_BYTES]


def stop_all_children() -> None:
    """Kill every child of this process now, without waiting: their readers then fail, and their owners clean up."""
    with _lock:
        children = tuple(_running)
    for child in children:
        child.stop()


@contextmanager
def children_of_this_run() -> Iterator[None]:
    """A block after which no child runs: when it is left by an exception (a cancellation too), all children are stopped at once.

    It must be the innermost block: a thread pool that is left first waits for threads that wait for children.
    """
    try:
        yield
    except BaseException:
        stop_all_children()
        raise


def enlarge_pipe(descriptor: int) -> None:
    """Make a pipe hold 1 MiB instead of 64 KiB, if the system lets us (fcntl(2), F_SETPIPE_SZ): fewer switches between its two ends."""
    with suppress(OSError):
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, PIPE_BYTES)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
