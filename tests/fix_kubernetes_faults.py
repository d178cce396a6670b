"""What a test does to the requests of the small Kubernetes API (fix_kubernetes): answers with errors, lost answers, delays, and something done at a very request."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# As a method, stands for all that change something (reviews of rights and dry runs do not).
WRITE = "WRITE"
# Given the method and the path (with its query) of a request.
Hook = Callable[[str, str], None]


class DroppedError(Exception):
    """Raised by a hook: the connection is closed without an answer. Raised before the request is carried out, it is never carried out."""


@dataclass
class Fault:
    """Answers to come: for requests of a method whose path contains `part`."""

    method: str
    part: str
    code: int
    times: int
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False


@dataclass
class _Hooked:
    method: str
    part: str
    action: Hook
    skip: int
    times: int
    after: bool


class Faults:
    """The script, consulted by the server for each request."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._hooks: list[_Hooked] = []
        self._slow: list[tuple[str, str, float]] = []
        self._frozen: set[str] = set()
        self._thawed = threading.Condition()

    def fail(self, method: str, part: str, code: int, *, times: int = 1, after: bool = False, **headers: str) -> None:
        """Answer the next requests so. `code` 0: the connection is closed without an answer; `after`: once the request was carried out."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self._faults.append(Fault(method, part, code, times, named, after))

    def before(self, method: str, part: str, action: Hook, *, skip: int = 0, times: int = 1) -> None:
        """Call something in the server when a request has arrived and nothing is done yet. `skip`: let so many pass first; `times`: for how many then.

        Raise DroppedError in it to have the request never carried out: as if its sender had been killed just before it was sent.
        """
        self._hooks.append(_Hooked(method, part, action, skip, times, after=False))

    def after(self, method: str, part: str, action: Hook, *, skip: int = 0, times: int = 1) -> None:
        """Call something in the server when a request was carried out well and its answer is not sent yet."""
        self._hooks.append(_Hooked(method, part, action, skip, times, after=True))

    def freeze(self, part: str) -> None:
        """Let every request whose path contains this wait until `thaw`."""
        self._frozen.add(part)

    def thaw(self) -> None:
        """Let all go on that wait."""
        with self._thawed:
            self._frozen.clear()
            self._thawed.notify_all()

    def slow(self, method: str, part: str, seconds: float) -> None:
        """Answer such requests so much later."""
        self._slow.append((method, part, seconds))

    def fault_for(self, method: str, path: str, *, after: bool) -> Fault | None:
        """The answer that is scripted for a request, once."""
        for fault in self._faults:
            if fault.times and fault.after == after and _meets(fault.method, fault.part, method, path):
                fault.times -= 1
                return fault
        return None

    def meet(self, method: str, path: str, *, after: bool) -> None:
        """Do what is scripted at a request: wait, then call what was hooked."""
        if not after:
            with self._thawed:
                while any(part in path for part in self._frozen):
                    self._thawed.wait(1)
            for slow_method, part, seconds in self._slow:
                if _meets(slow_method, part, method, path):
                    time.sleep(seconds)
        for hooked in self._hooks:
            if hooked.after != after or not _meets(hooked.method, hooked.part, method, path):
                continue
            if hooked.skip:
                hooked.skip -= 1
            elif hooked.times:
                hooked.times -= 1
                hooked.action(method, path)


def is_write(method: str, path: str) -> bool:
    """Whether a request changes something."""
    return method != "GET" and "/selfsubject" not in path and "dryRun" not in path


def _meets(wanted: str, part: str, method: str, path: str) -> bool:
    return part in path and (is_write(method, path) if wanted == WRITE else wanted == method)
