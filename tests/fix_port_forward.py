"""The port-forward of a Kubernetes API, over HTTP, that leads to any TCP port of this machine: what kubelet and API server do, held to the real ones in tests/cluster."""

import http
import json
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol


class PortForwardApi:
    """Leads every port-forward to one port; what a test wants of it otherwise is set on it."""

    def __init__(self) -> None:
        self.target = 0
        # The message of the refusal, and the text on the error channel; "" for none.
        self.refuses, self.breaks = "", ""
        # Cleared: what is sent to the Pod is not read.
        self.reads = threading.Event()
        self.reads.set()
        self.paths: list[str] = []
        self.tokens: list[str] = []

    def answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """The refusal, if there is to be one."""
        self.paths.append(request.path)
        self.tokens.append(request.headers.get("Authorization", ""))
        if not self.refuses:
            return None
        return connection.respond(http.HTTPStatus.FORBIDDEN, json.dumps({"kind": "Status", "message": self.refuses}))

    def forward(self, connection: ServerConnection) -> None:
        """Pass bytes on until one side ends."""
        port = struct.pack("<H", 5432)
        connection.send(b"\0" + port)
        connection.send(b"\1" + port)
        if self.breaks:
            connection.send(b"\1" + self.breaks.encode())
            return
        with socket.create_connection(("127.0.0.1", self.target)) as pod:
            back = threading.Thread(target=self._back, args=(connection, pod), daemon=True)
            back.start()
            with suppress(ConnectionClosed, OSError):
                while self.reads.wait(30):
                    frame = connection.recv(decode=False)
                    assert frame[:1] == b"\0"
                    pod.sendall(frame[1:])
            with suppress(OSError):
                pod.shutdown(socket.SHUT_RDWR)
            back.join(10)

    def _back(self, connection: ServerConnection, pod: socket.socket) -> None:
        with suppress(ConnectionClosed, OSError):
            while block := pod.recv(32 * 1024):
                connection.send(b"\0" + block)
        connection.close()


@contextmanager
def port_forward_api(folder: Path) -> Iterator[tuple[PortForwardApi, Path]]:
    """A running one, and the path of a kubeconfig that leads to it."""
    api = PortForwardApi()
    with serve(
        api.forward,
        "127.0.0.1",
        0,
        process_request=api.answer,
        subprotocols=[Subprotocol("v4.channel.k8s.io")],
        compression=None,
        max_size=None,
        ping_interval=None,
    ) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        address = f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        file = folder / "port-forward-kubeconfig"
        document = {
            "current-context": "lab",
            "clusters": [{"name": "lab", "cluster": {"server": address}}],
            "users": [{"name": "me", "user": {"token": "a-token"}}],
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "me"}}],
        }
        file.write_text(yaml.safe_dump(document))
        yield api, file
        server.shutdown()
        thread.join(10)


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PortForwardApi]:
    """A port-forward of the test's own; KUBECONFIG leads to it."""
    with port_forward_api(tmp_path) as (api, file):
        monkeypatch.setenv("KUBECONFIG", str(file))
        yield api
