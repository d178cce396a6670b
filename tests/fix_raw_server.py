"""A server that answers what a test says, byte for byte: for clients that must take whatever comes."""

import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

import pytest

# Given what came in, the bytes to send; a float is a pause in seconds. At the end the connection is closed, unless more may come in (`keep`).
Answers = Callable[[bytes], Iterable[bytes | float]]


def http(body: bytes | str, *, status: str = "200 OK", **headers: str) -> list[bytes | float]:
    """An HTTP answer of this body."""
    content = body.encode() if isinstance(body, str) else body
    lines = {"Content-Type": "application/json", "Content-Length": str(len(content)), "Connection": "close"}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return [f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + content]


class RawServer:
    """Listens on loopback. `asked`: what came in, in order."""

    def __init__(self) -> None:
        self.answers: Answers = lambda _asked: ()
        self.asked: list[bytes] = []
        self.keep = False
        self._closed = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """End it, and what it is just sending."""
        self._closed.set()
        # Closing alone would leave the thread that accepts where it is, and the port open.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while asked := connection.recv(65536):
                self.asked.append(asked)
                for one in self.answers(asked):
                    if isinstance(one, bytes):
                        connection.sendall(one)
                    elif self._closed.wait(one):
                        return
                if not self.keep:
                    return


@pytest.fixture
def raw_server() -> Iterator[RawServer]:
    """One of the test's own."""
    server = RawServer()
    yield server
    server.close()


def dripping(first: bytes, drop: bytes = b" ", *, seconds: float = 30, every: float = 0.02) -> Iterator[bytes | float]:
    """An answer that begins and never ends."""
    yield first
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        yield drop
        yield every
