"""A web server that answers each request as a test scripts it, well or badly, and keeps what it was asked."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest


@dataclass(frozen=True)
class Asked:
    """A request: header names in lower case, `document` the body as JSON, None when there is none."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    document: Any


@dataclass(frozen=True)
class Reply:
    """An answer: a document, or bytes as they are. Status 0 closes the connection; `seconds` pass before it, `drip` between its bytes.

    `header_drip`: a header that comes byte by byte, so many seconds apart, and does not end.
    """

    content: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drip: float = 0.0
    header_drip: float = 0.0


class WebScript:
    """`reply` answers each request; `asked` are those that came."""

    def __init__(self) -> None:
        self.reply: Callable[[Asked], Reply] = lambda _asked: Reply({"message": "Not found"}, 404)
        self.asked: list[Asked] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": self}))
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def always(self, content: Any, status: int = 200, **more: Any) -> None:
        """Answer every request so."""
        self.reply = lambda _asked: Reply(content, status, **more)

    def close(self) -> None:
        """End it: connections are refused."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: WebScript
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""

    def handle_one_request(self) -> None:
        """As the base class; a client that did not wait is no error."""
        try:
            super().handle_one_request()
        except ConnectionError:
            self.close_connection = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name.lower(): value for name, value in self.headers.items()}
        asked = Asked(self.command, address.path, parse_qs(address.query), headers, json.loads(body) if body else None)
        self.web.asked.append(asked)
        reply = self.web.reply(asked)
        time.sleep(reply.seconds)
        if not reply.status:
            self.close_connection = True
            return
        if reply.header_drip:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            for _ in range(200):
                self.wfile.write(b"x")
                time.sleep(reply.header_drip)
            return
        content = reply.content if isinstance(reply.content, bytes) else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        for name, value in {"Content-Type": "application/json", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        step = 1 if reply.drip else len(content) or 1
        for begin in range(0, len(content), step):
            self.wfile.write(content[begin : begin + step])
            time.sleep(reply.drip)


@pytest.fixture
def web_script(monkeypatch: pytest.MonkeyPatch) -> Iterator[WebScript]:
    """A scripted web server on loopback, for one test; nobody waits long before asking it again."""
    monkeypatch.setattr("tasks.web_api._backoff", lambda _state: 0.01)
    script = WebScript()
    yield script
    script.close()
