"""Pods behind an API server's proxy, scripted: the list of a selector's Pods, and what each answers on a path."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

Document = dict[str, Any]
# Given a Pod's name and a path, status and text; (0, "") closes the connection, (-1, "") does not answer for a while.
Answer = Callable[[str, str], tuple[int, str]]


def pod(name: str, *, ready: bool = True, port: int = 3000, deleted: bool = False, uid: str = "") -> Document:
    """A Pod's document as far as it is looked at."""
    owner = {"kind": "ReplicaSet", "name": name.rpartition("-")[0]}
    return {
        "metadata": {
            "name": name,
            "uid": uid or f"uid-of-{name}",
            "ownerReferences": [owner],
            **({"deletionTimestamp": "2026-11-22T03:00:00Z"} if deleted else {}),
        },
        "spec": {"containers": [{"name": "api", "ports": [{"containerPort": port}] if port else []}]},
        "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True" if ready else "False"}]},
    }


def refused(code: int, message: str, **details: str) -> tuple[int, str]:
    """How the API server says no."""
    return code, json.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "status": "Failure",
            "message": message,
            "code": code,
            "details": details,
        }
    )


class PodProxy:
    """The Pods there are, one list after the other (the last stays), and their answers."""

    def __init__(self) -> None:
        self.lists: list[list[Document]] = [[]]
        self.answer: Answer = lambda _pod, _path: (200, "ok")
        self.asked: list[str] = []
        self.list_code = 200
        self.waiting = threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def next_list(self) -> list[Document]:
        """The list as it is read now."""
        return self.lists.pop(0) if len(self.lists) > 1 else self.lists[0]

    def close(self) -> None:
        """End the server."""
        self.waiting.set()
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    proxy: PodProxy
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        if "/proxy/" not in path:
            code = self.proxy.list_code
            text = json.dumps({"items": self.proxy.next_list()}) if code == 200 else refused(code, "no")[1]
            self._send(code, text)
            return
        named, _, rest = path.partition("/pods/")[2].partition("/proxy")
        self.proxy.asked.append(f"{named}{rest}")
        code, text = self.proxy.answer(named.removeprefix("https:").partition(":")[0], rest)
        if code < 0:
            self.proxy.waiting.wait(5)
        if code <= 0:
            self.close_connection = True
            self.connection.close()
            return
        self._send(code, text)

    def _send(self, code: int, text: str) -> None:
        raw = text.encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments: Any) -> None:
        pass


@pytest.fixture
def pod_proxy() -> Iterator[PodProxy]:
    """Scripted Pods, for one test."""
    made = PodProxy()
    yield made
    made.close()
