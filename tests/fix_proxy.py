"""A TCP proxy before a PostgreSQL server that can be cut, made slow or made deaf."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

BLOCK_BYTES = 64 * 1024


class TcpProxy:
    """Listens on 127.0.0.1 at `port` and passes bytes on to another port of it."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._go_on = threading.Event()
        self._go_on.set()
        self._cut_after: int | None = None
        self._bytes_per_second = 0
        self.passed_bytes = 0
        # Connections, from the first on.
        self.accepted = 0
        self._start(self._accept)

    def cut(self) -> None:
        """Break every connection that stands; new ones are let through."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for connection in sockets:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def cut_after(self, passed_bytes: int) -> None:
        """Break every connection once the server has sent so many bytes more."""
        self._cut_after = self.passed_bytes + passed_bytes

    def hang(self) -> None:
        """Pass nothing on any more; connections stay open."""
        self._go_on.clear()

    def slow_down(self, bytes_per_second: int) -> None:
        """Pass the server's bytes on at about this rate, all connections together."""
        self._bytes_per_second = bytes_per_second

    def go_on(self) -> None:
        """Pass on what waits."""
        self._go_on.set()

    def close(self) -> None:
        """End everything."""
        self._go_on.set()
        # A listener that is closed does not wake its accept; one that is shut down does.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            server = socket.create_connection(("127.0.0.1", self._target_port))
            with self._lock:
                self._sockets += [client, server]
            self._start(self._pass, client, server, False)
            self._start(self._pass, server, client, True)

    def _pass(self, source: socket.socket, target: socket.socket, counted: bool) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK_BYTES):
                self._go_on.wait()
                target.sendall(block)
                if counted:
                    self._count(len(block))
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def _count(self, size: int) -> None:
        self.passed_bytes += size
        if self._bytes_per_second:
            time.sleep(size / self._bytes_per_second)
        if self._cut_after is not None and self.passed_bytes >= self._cut_after:
            self._cut_after = None
            self.cut()


@pytest.fixture
def tcp_proxy() -> Iterator[Callable[[int], TcpProxy]]:
    """A factory: given a port of 127.0.0.1, return a proxy before it; closed after the test."""
    made: list[TcpProxy] = []

    def make(port: int) -> TcpProxy:
        made.append(TcpProxy(port))
        return made[-1]

    yield make
    for proxy in made:
        proxy.close()
