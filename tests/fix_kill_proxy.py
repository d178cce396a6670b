"""An HTTP proxy before a Kubernetes API that kills or stops a process at its n-th write, and otherwise passes everything on.

"Before": the write never reaches the API server. "After": it is carried out, and the process dies without having seen the answer. "Asleep": the process is stopped
with its write on the way, which arrives when it is woken.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tasks.kubeconfig import find_connection

WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding", "content-encoding"}
)


class KillProxy:
    """Before the API server that KUBECONFIG leads to. `writes` tells (method, path) of those that came, but for reviews of rights."""

    def __init__(self, folder: Path) -> None:
        connection = find_connection(None)
        headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        self.upstream = connection.server
        self.http = httpx.Client(verify=connection.tls, headers=headers, timeout=90)
        self.writes: list[tuple[str, str]] = []
        self.kill_at, self.kill_when, self.process = 0, "before", 0
        # Set when a process was stopped at its write; it, and the write with it, go on after `wake`.
        self.stopped, self.woken = threading.Event(), threading.Event()
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.kubeconfig = folder / "kill-proxy.kubeconfig"
        document = {
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {"token": "of-nobody"}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "me"}}],
        }
        self.kubeconfig.write_text(yaml.safe_dump(document))

    def arm(self, number: int, when: str, process: int) -> None:
        """Kill that process before or after its write with this number (from 1; 0: never), or send it to sleep."""
        with self.lock:
            self.writes.clear()
            self.stopped.clear()
            self.woken.clear()
            self.kill_at, self.kill_when, self.process = number, when, process

    def count(self, method: str, path: str) -> bool:
        """Note a write; whether it is the one."""
        with self.lock:
            self.writes.append((method, path))
            return len(self.writes) == self.kill_at

    def kill(self) -> None:
        os.kill(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """Stop the process, and wait until it is woken."""
        os.kill(self.process, signal.SIGSTOP)
        self.stopped.set()
        self.woken.wait(60)

    def wake(self) -> None:
        """Let the process go on, and its write arrive."""
        os.kill(self.process, signal.SIGCONT)
        self.woken.set()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.http.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: KillProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._pass_on("GET")

    def do_POST(self) -> None:
        self._pass_on("POST")

    def do_PUT(self) -> None:
        self._pass_on("PUT")

    def do_PATCH(self) -> None:
        self._pass_on("PATCH")

    def do_DELETE(self) -> None:
        self._pass_on("DELETE")

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - the base class's name
        """Say nothing."""

    def _pass_on(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        counted = method in WRITES and "/selfsubject" not in self.path
        is_it = counted and self.proxy.count(method, self.path)
        if is_it and self.proxy.kill_when == "asleep":
            self.proxy.stop()
            is_it = False
        if is_it and self.proxy.kill_when == "before":
            self.proxy.kill()
            self.close_connection = True
            return
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in {*_HOP_BY_HOP, "authorization"}
        }
        request: Any = self.proxy.http.build_request(
            method, self.proxy.upstream + self.path, headers=headers, content=body
        )
        answer = self.proxy.http.send(request, stream=True)
        try:
            if is_it:
                answer.read()
                self.proxy.kill()
                self.close_connection = True
                return
            self._answer(answer)
        except (OSError, httpx.TransportError):
            # The child was killed, or the API server ended a watch in the middle.
            self.close_connection = True
        finally:
            answer.close()

    def _answer(self, answer: httpx.Response) -> None:
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        for part in answer.iter_bytes():
            self.wfile.write(part)
            self.wfile.flush()


@pytest.fixture
def kill_proxy(tmp_path: Path) -> Iterator[KillProxy]:
    """A proxy before the API server that KUBECONFIG leads to. It is not in KUBECONFIG: a child sets it for itself."""
    proxy = KillProxy(tmp_path)
    yield proxy
    proxy.close()
