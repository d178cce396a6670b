"""Running a program so that untrusted code in it sees as little as the system lets us arrange, and saying in plain words what that is (see scratch_guard.py)."""

import json
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from core.errors import PermanentError
from tasks.children import PIPE, Child
from tasks.server_account import Account

_GUARD = str(Path(__file__).with_name("scratch_guard.py"))
# PostgreSQL needs these two and none of ours; nothing is inherited.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
# Programs, libraries and what they read at start. No home, no /run, no /var, no /etc but these files: that is where secrets and other sockets are.
SYSTEM = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/nix/store",
)
# Without one of these a dump's code could get at secrets or send them away.
NEEDED = ("network", "processes", "files")
_WORDS = {
    "network": "no network: a network namespace of its own without any interface",
    "processes": "no other process in sight: a process namespace with its own /proc",
    "files": "no files of this machine but programs, read-only, and its own folder",
    "memory": "no shared memory of others: an IPC namespace of its own",
    "privileges": "no way to gain rights (no_new_privs)",
    "user": "another OS user than the worker's",
}
_LACKS = {
    "network": "the network is within reach of a dump's code",
    "processes": "other processes are in sight of a dump's code",
    "files": "files that its OS user can read are in sight of a dump's code",
    "memory": "shared memory is not kept apart",
}


@dataclass(frozen=True)
class Plan:
    """What the program may see: `own` are the folders that it may write to, starting in the first, `show` what it may read besides the system's programs, `root` an
    empty folder.
    """

    own: tuple[Path, ...]
    root: Path
    show: tuple[Path, ...] = ()
    account: Account | None = None
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass(frozen=True)
class Isolation:
    """What was obtained, as keys of the guard, and what was not, with the reason."""

    obtained: tuple[str, ...]
    missing: dict[str, str]

    @property
    def sentences(self) -> tuple[str, ...]:
        """What was obtained, in plain words."""
        return ("an empty environment: only PATH and LC_ALL", *(_WORDS[key] for key in _WORDS if key in self.obtained))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was not, in plain words."""
        lacking = [f"{_LACKS.get(key, key)} ({why})" for key, why in sorted(self.missing.items())]
        if "user" not in self.obtained and "files" not in self.obtained:
            lacking.append("the scratch server runs as the worker's own OS user and can read the worker's files")
        return tuple(lacking)

    @property
    def lacks(self) -> tuple[str, ...]:
        """Of what keeps secrets in, that which was not obtained, in plain words."""
        return tuple(
            f"{_LACKS[key]} ({self.missing.get(key, 'not obtained')})" for key in NEEDED if key not in self.obtained
        )


class GuardedProgram:
    """A running program behind the guard. Use it as a context manager: after the block nothing of it runs, daemons that it made included (where processes were
    obtained).
    """

    def __init__(self, argv: Sequence[str], plan: Plan) -> None:
        """Start it. Raise PermanentError when it cannot be started, with what the guard says."""
        account = plan.account
        document = {
            "own": [str(path) for path in plan.own],
            "root": str(plan.root),
            "show": _outermost([*SYSTEM, *map(str, plan.show)]),
            "user": account.user_id if account else None,
            "group": account.group_id if account else None,
            "stop": int(plan.stop_signal),
        }
        self.name = Path(argv[0]).name
        command = [sys.executable, "-I", "-S", _GUARD, str(os.getpid()), json.dumps(document), *argv]
        self.child = Child(command, environment=ENVIRONMENT, stdout=PIPE)
        try:
            report = json.loads(self._first_line())
        except ValueError:
            self.child.close()
            raise PermanentError(
                f"start {self.name} behind the guard", argv[0], self.found, "See what the guard said"
            ) from None
        self.isolation = Isolation(tuple(report["obtained"]), report["missing"])

    @property
    def found(self) -> str:
        """How it ended, or what it said last, in one line."""
        said = " | ".join(line.strip() for line in self.child.stderr_tail.splitlines() if line.strip())[-1000:]
        if self.child.running:
            return said or "it said nothing"
        return f"{self.name} ended: {said or 'it said nothing'}"

    def run_to_end(self, seconds: float) -> None:
        """Wait for its end. Raise PermanentError when it ends with another exit code than 0, TemporaryError when not in time."""
        if self.child.wait(seconds) != 0:
            raise PermanentError(f"run {self.name}", str(self.child.name), self.found, "")

    def stop(self, seconds: float = 15.0) -> None:
        """Ask it to end by the plan's signal, and wait; what is left after so many seconds is killed."""
        with suppress(ProcessLookupError):
            if self.child.running:
                os.kill(self.child.pid, signal.SIGTERM)
        with suppress(Exception):
            self.child.wait(seconds)
        self.child.close()

    def __enter__(self) -> "GuardedProgram":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _first_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            block = self.child.stdout.read(65536)
            if not block:
                self.child.wait(10)
                return line
            line += block
        return line


def _outermost(paths: Sequence[str]) -> list[str]:
    """Paths without those that lie below another one, each once: a folder is shown with all that is in it."""
    return [
        path
        for path in dict.fromkeys(paths)
        if not any(path != other and Path(path).is_relative_to(other) for other in paths)
    ]
