"""A scripted Prometheus: its HTTP API as far as it is asked, with the answers that a test puts there, and every way to answer badly."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import pytest

Document = dict[str, Any]
# Given the query and the time asked for, the result of a matrix or vector.
Answer = Callable[[str, float], list[Document]]


class PrometheusApi:
    """What it answers (`answer`), what it was asked (`asked`), and how it fails (`failures`: code, body, headers; code 0 closes the connection)."""

    def __init__(self) -> None:
        self.answer: Answer = lambda _query, _at: []
        self.kind = "matrix"
        self.extra: Document = {}
        self.failures: list[tuple[int, str, dict[str, str]]] = []
        self.always: tuple[int, str, dict[str, str]] | None = None
        self.rules: list[Document] = []
        # None: it has no such page, as what stands in for a Prometheus has not.
        self.retention: str | None = "35d"
        self.slow_seconds = 0.0
        self.drip = False
        self.clock_apart = 0.0
        self.asked: list[tuple[str, dict[str, str], dict[str, str]]] = []
        self._server: ThreadingHTTPServer | None = None
        self._port = 0
        self.come_back()
        self.address = f"http://127.0.0.1:{self._port}"

    @property
    def queries(self) -> list[str]:
        """The queries, in order."""
        return [form["query"] for _, form, _ in self.asked if "query" in form]

    def go_away(self) -> None:
        """End the server: connections are refused."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def come_back(self) -> None:
        """Serve, at the same address as before."""
        handler = type("Handler", (_Handler,), {"api": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), handler)
        self._server.daemon_threads = True
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    api: PrometheusApi
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def _handle(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        form = {name: values[0] for name, values in parse_qs(body).items()}
        self.api.asked.append((self.path, form, {name.lower(): value for name, value in self.headers.items()}))
        time.sleep(self.api.slow_seconds)
        failure = self.api.failures.pop(0) if self.api.failures else self.api.always
        if failure is not None:
            code, text, headers = failure
            if not code:
                self.close_connection = True
                self.connection.close()
                return
            self._send(code, text, headers)
        elif self.path == "/-/ready":
            self._send(200, "Prometheus Server is Ready.\n", {})
        elif self.path == "/api/v1/rules":
            self._success({"groups": self.api.rules})
        elif self.path == "/api/v1/status/runtimeinfo":
            if self.api.retention is None:
                self._send(404, "404 page not found", {})
            else:
                self._success({"storageRetention": self.api.retention})
        else:
            at = float(form.get("time") or form["end"])
            self._success({"resultType": self.api.kind, "result": self.api.answer(form["query"], at)})

    def _success(self, data: Any) -> None:
        self._send(200, json.dumps({"status": "success", "data": data, **self.api.extra}), {})

    def _send(self, code: int, text: str, headers: dict[str, str]) -> None:
        raw = text.encode()
        self.send_response_only(code)
        self.send_header("Date", formatdate(time.time() + self.api.clock_apart, usegmt=True))
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(raw)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            for begin in range(0, len(raw), 1 if self.api.drip else len(raw) or 1):
                self.wfile.write(raw[begin : begin + (1 if self.api.drip else len(raw))])
                time.sleep(0.05 if self.api.drip else 0)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def prometheus_api() -> Iterator[PrometheusApi]:
    """A scripted Prometheus on loopback, for one test."""
    api = PrometheusApi()
    yield api
    api.go_away()
