"""One server or command of the platform: a child process with its own standard streams, that dies with its parent and is ended by its own process id."""

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.errors import PermanentError
from core.redaction import redact_output
from tasks.server_account import Account

_TAIL_LINES = 4
_PR_SET_PDEATHSIG = 1
# Looked up before any fork: loading a library in a forked child could wait for a lock that another thread held.
_prctl: Callable[[int, int], int] | None = ctypes.CDLL(None).prctl if sys.platform == "linux" else None


def log_tail(log: Path, lines: int = _TAIL_LINES) -> str:
    """Given a log file, return its last lines as `last_lines` has them; "" when there is none."""
    try:
        return last_lines(log.read_text(errors="replace"), lines)
    except FileNotFoundError:
        return ""


def last_lines(text: str, lines: int = _TAIL_LINES) -> str:
    """Given what a program said, return its last lines that hold anything, in one line and without secrets."""
    return redact_output(" | ".join([line.strip() for line in text.splitlines() if line.strip()][-lines:]))


@dataclass
class Service:
    """A server's command and, once started, its process.

    `account` is the OS user to run as (None: ourselves). `stop_signal` asks it to end; past `grace_seconds` it is killed. `parent_death_signal` is what
    Linux sends it when this process dies without having stopped it.
    """

    name: str
    argv: Sequence[str]
    environment: dict[str, str]
    log: Path
    folder: Path
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    parent_death_signal: signal.Signals = signal.SIGKILL
    grace_seconds: float = 10.0
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it. Raise PermanentError when the command cannot be run."""
        us = os.getpid()

        def in_child() -> None:
            if _prctl is not None:
                _prctl(_PR_SET_PDEATHSIG, int(self.parent_death_signal))
                if os.getppid() != us:
                    os._exit(1)

        account = self.account
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=self.environment,
                # Ctrl-C reaches the whole foreground group: our children are not in it, so that we can stop them in order.
                start_new_session=True,
                user=account.user_id if account else None,
                group=account.group_id if account else None,
                extra_groups=[] if account else None,
                preexec_fn=in_child,  # noqa: PLW1509 - calls two functions that were looked up before the fork
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise PermanentError(f"start {self.name}", self.argv[0], str(error)) from error
        finally:
            os.close(log)

    @property
    def running(self) -> bool:
        """Whether its process is alive."""
        return self.process is not None and self.process.poll() is None

    def death(self) -> PermanentError:
        """Given that its process has ended, return the error that says so, with the end of its log."""
        code = self.process.poll() if self.process else None
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        return PermanentError(
            f"keep {self.name} running",
            str(self.log),
            f"it ended {how}: {log_tail(self.log) or 'its log is empty'}",
            "See its log",
        )

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait until `ready()` holds. Raise PermanentError when the process ends first or the time is over."""

        def waiting() -> bool:
            if not self.running:
                raise self.death()
            return not ready()

        wait = Retrying(retry=retry_if_result(bool), stop=stop_after_delay(timeout_seconds), wait=wait_fixed(0.1))
        try:
            wait(waiting)
        except RetryError as error:
            raise PermanentError(
                f"wait for {self.name}",
                str(self.log),
                f"it did not answer within {timeout_seconds:.0f} s: {log_tail(self.log)}",
                "See its log",
            ) from error

    def run_to_end(self, timeout_seconds: float) -> None:
        """Start a command that ends by itself, and wait for it. Raise PermanentError when it ends with another exit code than 0, or not in time."""
        self.start()
        assert self.process is not None  # noqa: S101 - for the type checker: start sets it or raises
        try:
            code = self.process.wait(timeout_seconds)
        except subprocess.TimeoutExpired as error:
            found = f"it did not end within {timeout_seconds:.0f} s: {log_tail(self.log)}"
            raise PermanentError(f"run {self.name}", str(self.log), found, "See its log") from error
        finally:
            self.stop()
        if code != 0:
            found = log_tail(self.log, lines=8) or f"it ended with exit code {code}"
            raise PermanentError(f"run {self.name}", str(self.log), found, "See its log")

    def stop(self) -> None:
        """End it: by its stop signal, after the grace by SIGKILL. Nothing happens when it is not running."""
        if self.process is None:
            return
        with suppress(ProcessLookupError):
            self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(self.grace_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
