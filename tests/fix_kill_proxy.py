"""An HTTP proxy before a Kubernetes API that kills or stops a process at its n-th write, and otherwise passes everything on.

"Before": the write never reaches the API server. "After": it is carried out, and the process dies without having seen the answer. "Asleep": the process is stopped
with its write on the way, which arrives when it is woken.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.fix_api_proxy import WRITES, ApiProxy, Fault
from tests.waiting import wait_until

# Whether a write (method, path, body) is one of those that are counted.
Counts = Callable[[str, str, bytes], bool]


def every_write(_method: str, _path: str, _body: bytes) -> bool:
    """Each of them. On a real cluster a renewal of the lease, or a try that met another's write, is one more."""
    return True


class KillProxy(ApiProxy):
    """Before the API server that KUBECONFIG leads to. `writes` tells (method, path) of those that came, but for reviews of rights."""

    def __init__(self, folder: Path) -> None:
        self.writes: list[tuple[str, str]] = []
        self.kill_at, self.kill_when, self.process = 0, "before", 0
        self._counts, self._counted = every_write, 0
        # Set when a process was stopped at its write; it, and the write with it, go on after `wake`.
        self.stopped, self.woken = threading.Event(), threading.Event()
        super().__init__()
        self.kubeconfig = folder / "kill-proxy.kubeconfig"
        self.kubeconfig.write_text(yaml.safe_dump(self.kubeconfig_document({"token": "of-nobody"})))

    def arm(self, number: int, when: str, process: int, counts: Counts = every_write) -> None:
        """Kill that process before or after its write with this number (from 1; 0: never) of those that count, or send it to sleep."""
        with self.lock:
            self.writes.clear()
            self.stopped.clear()
            self.woken.clear()
            self.kill_at, self.kill_when, self.process = number, when, process
            self._counts, self._counted = counts, 0

    def meet(self, method: str, path: str, body: bytes) -> Fault | None:
        """Note a write; kill or stop the process when it is the one."""
        if method not in WRITES or "/selfsubject" in path:
            return None
        with self.lock:
            self.writes.append((method, path))
            if not self._counts(method, path, body):
                return None
            self._counted += 1
            if self._counted != self.kill_at:
                return None
        if self.kill_when == "asleep":
            self.stop()
            return None
        return Fault(after=self.kill_when == "after", action=self.kill)

    def kill(self) -> None:
        os.kill(self._there(), signal.SIGKILL)

    def stop(self) -> None:
        """Stop the process, and wait until it is woken."""
        os.kill(self._there(), signal.SIGSTOP)
        self.stopped.set()
        self.woken.wait(240)

    def wake(self) -> None:
        """Let the process go on, and its write arrive."""
        os.kill(self.process, signal.SIGCONT)
        self.woken.set()

    def _there(self) -> int:
        """The process. A child may write before its parent has noted who it is, and 0 is everybody of this process' group."""
        wait_until(lambda: self.process, "the process is known")
        return self.process


@pytest.fixture
def kill_proxy(tmp_path: Path) -> Iterator[KillProxy]:
    """A proxy before the API server that KUBECONFIG leads to. It is not in KUBECONFIG: a child sets it for itself."""
    proxy = KillProxy(tmp_path)
    yield proxy
    proxy.close()
