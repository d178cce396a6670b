"""An HTTP proxy before the Kubernetes API that KUBECONFIG leads to, which passes everything on but for what a test wants otherwise."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

from tasks.kubeconfig import find_connection

WRITES = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "accept-encoding", "content-encoding"}
)


def is_write(method: str, path: str) -> bool:
    """Whether a request changes something: reviews of rights and dry runs do not."""
    return method in WRITES and "/selfsubject" not in path and "dryRun" not in path


@dataclass(frozen=True)
class Fault:
    """What becomes of a request. `after`: once the API server has carried it out; `action`: is done then; `code` 0: the connection is closed without an answer."""

    code: int = 0
    content: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    after: bool = False
    action: Callable[[], object] = lambda: None


def status(code: int, message: str) -> bytes:
    """An API server's own document for an error."""
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message, "code": code}
    return json.dumps(document).encode()


class ApiProxy:
    """The proxy, who is the one of the kubeconfig before the API server, whoever asks. `tls`: it speaks TLS by this context. Close it at the end."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        connection = find_connection(None)
        headers = {"Authorization": f"Bearer {connection.token}"} if connection.token else {}
        self.upstream = connection.server
        self.http = httpx.Client(verify=connection.tls, headers=headers, timeout=90)
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        if tls is not None:
            # The handshake is the business of the connection's own thread.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def kubeconfig_document(self, user: dict[str, Any], **cluster: Any) -> dict[str, Any]:
        """A kubeconfig that leads here."""
        return {
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": self.address, **cluster}}],
            "users": [{"name": "me", "user": user}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "me"}}],
        }

    def admits(self, _authorization: str) -> bool:
        """Whether who says so is let in; else: 401."""
        return True

    def meet(self, method: str, path: str, body: bytes) -> Fault | None:
        """What becomes of a request; None: it is passed on. Called for each, by the thread of its connection."""
        raise NotImplementedError

    def passed(self, method: str, path: str) -> None:
        """Called when a request was carried out well and its answer is not sent yet; for a watch, when it begins."""

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self.http.close()


class _Handler(BaseHTTPRequestHandler):
    proxy: ApiProxy
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
        self.close_connection = True
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self.proxy.admits(self.headers.get("Authorization", "")):
            self._fail(Fault(401, status(401, "Unauthorized")))
            return
        fault = self.proxy.meet(method, self.path, body)
        if fault is not None and not fault.after:
            self._fail(fault)
            return
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in {*_HOP_BY_HOP, "authorization"}
        }
        request: Any = self.proxy.http.build_request(
            method, self.proxy.upstream + self.path, headers=headers, content=body
        )
        answer = self.proxy.http.send(request, stream=True)
        try:
            if fault is not None:
                answer.read()
                self._fail(fault)
                return
            if answer.is_success:
                self.proxy.passed(method, self.path)
            self._answer(answer)
        except (OSError, httpx.TransportError):
            # Who asked was killed, or the API server ended a watch in the middle.
            pass
        finally:
            answer.close()

    def _fail(self, fault: Fault) -> None:
        fault.action()
        if fault.code:
            self._begin(fault.code, fault.headers)
            self.wfile.write(fault.content)

    def _answer(self, answer: httpx.Response) -> None:
        self._begin(answer.status_code, answer.headers)
        for part in answer.iter_bytes():
            self.wfile.write(part)
            self.wfile.flush()

    def _begin(self, code: int, headers: Any) -> None:
        self.send_response(code)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
