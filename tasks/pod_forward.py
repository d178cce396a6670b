"""A local Unix socket that leads to a port of a Pod, through the Kubernetes API (port-forward), so that libpq and pg_restore reach a Pod that nobody else does."""

import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.errors import ConfigurationError, TemporaryError

logger = logging.getLogger(__name__)

BLOCK_BYTES = 256 * 1024
_JOIN_SECONDS = 5.0
_HANG_UP_SECONDS = 1.0


@dataclass(frozen=True)
class Line:
    """A connection to the Pod: the socket to read and write, and what ends it for good once the socket is closed."""

    socket: socket.socket
    hang_up: Callable[[], None] = lambda: None


Dial = Callable[[], Line]


@contextmanager
def forwarded_socket(path: Path, dial: Dial) -> Iterator["Forwarder"]:
    """Given the path of a Unix socket to make and a function that opens a connection to the Pod, pass bytes between them within the block."""
    forwarder = Forwarder(path, dial)
    try:
        yield forwarder
    finally:
        forwarder.close()


class Forwarder:
    """Listens on a Unix socket; each connection gets one of its own to the Pod, and two threads."""

    def __init__(self, path: Path, dial: Dial) -> None:
        self._dial = dial
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._closed = False
        # The last reason why the Pod could not be reached: a client only sees that its connection was closed.
        self.last_error = ""
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(64)
        self._start(self._accept, "accept")

    def close(self) -> None:
        """Close the listener and every connection, and wait for the threads."""
        with self._lock:
            self._closed = True
            open_now, self._open = tuple(self._open), set()
        # A thread that waits in accept is woken by shutdown, not by close (Linux).
        for end in (self._listener, *open_now):
            _shut(end)
            end.close()
        for thread in tuple(self._threads):
            thread.join(_JOIN_SECONDS)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self._start(lambda client=client: self._serve(client), "serve")  # type: ignore[misc]

    def _serve(self, client: socket.socket) -> None:
        try:
            line = self._dial()
        except Exception as error:  # noqa: BLE001 - whatever the client library raises, the client must see its connection end
            self.last_error = f"{type(error).__name__}: {error}"
            logger.warning("could not reach the Pod: %s", self.last_error)
            client.close()
            return
        pod = line.socket
        with self._lock:
            go_on = not self._closed
            if go_on:
                self._open |= {client, pod}
        if go_on:
            back = threading.Thread(target=_pump, args=(pod, client), name="pod-forward back", daemon=True)
            back.start()
            _pump(client, pod)
            back.join()
        with self._lock:
            self._open -= {client, pod}
        client.close()
        pod.close()
        line.hang_up()

    def _start(self, run: Callable[[], None], what: str) -> None:
        thread = threading.Thread(target=run, name=f"pod-forward {what}", daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()]
        self._threads.append(thread)
        thread.start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one end closes, then end both: a PostgreSQL session has no use for half a connection."""
    with suppress(OSError):
        while block := source.recv(BLOCK_BYTES):
            target.sendall(block)
    _shut(source)
    _shut(target)


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)


def pod_dialer(context: str | None, namespace: str, pod: str, port: int) -> Dial:
    """Given where a Pod is, return a function that opens a connection to one of its ports.

    Each connection loads its credentials anew: those of a managed cluster last minutes. Raise (in the function) ConfigurationError without a cluster,
    TemporaryError when the API server refuses the connection.
    """

    # Imported here: it takes seconds and 50 MiB, which drills without Pods need not spend; and not in `dial`, whose caller has a time-out.
    from kubernetes import client, config, stream  # noqa: PLC0415

    def dial() -> Line:
        try:
            api = client.CoreV1Api(config.new_client_from_config(context=context))  # type: ignore[no-untyped-call]
        except config.ConfigException:
            if context is not None:
                raise ConfigurationError("reach the Pod", pod, f"the kubeconfig has no context {context}") from None
            try:
                settings = client.Configuration()
                config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            except config.ConfigException as error:
                raise ConfigurationError("reach the Pod", pod, str(error), "Set KUBECONFIG for the worker") from error
            api = client.CoreV1Api(client.ApiClient(settings))
        try:
            forward = stream.portforward(api.connect_get_namespaced_pod_portforward, pod, namespace, ports=str(port))
        except client.ApiException as error:
            raise TemporaryError("forward a port", f"Pod {namespace}/{pod}", str(error.reason), "") from error
        end = forward.socket(port)
        # The library's own wrapper only intercepts an option that we do not set.
        return Line(getattr(end, "_socket", end), lambda: _hang_up(forward))

    return dial


def _hang_up(forward: Any) -> None:
    """End the library's connection when its own thread did not, as when the Pod went first; the thread is given a moment, since it may be sending."""
    wait = Retrying(
        retry=retry_if_result(bool),
        stop=stop_after_delay(_HANG_UP_SECONDS),
        wait=wait_fixed(0.05),
        retry_error_callback=lambda _: None,
    )
    wait(lambda: forward.connected)
    with suppress(Exception):
        forward.websocket.shutdown()
