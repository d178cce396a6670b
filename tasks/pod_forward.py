"""A local Unix socket that leads to a port of a Pod, through the Kubernetes API (port-forward), so that libpq and pg_restore reach a Pod that nobody else does.

The Kubernetes client library's own port-forward takes in without bound what is to be sent, and copies all that waits for each piece that goes out: 30 MB took
half a minute. Here no more is read than the other side has room for: 100 MB took 3 s on the same cluster, as with kubectl.
"""

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from core.errors import NightshiftError, TemporaryError
from tasks.kubeconfig import find_connection

logger = logging.getLogger(__name__)
# At DEBUG it would log each frame, and the token of the first request.
_quiet = logging.getLogger(f"{__name__}.websocket")
_quiet.setLevel(logging.WARNING)

BLOCK_BYTES = 128 * 1024
# Binary frames, each beginning with the number of its channel: here 0 for the data, 1 for an error's text; the first frame of each says the port
# (Kubernetes, pkg/kubelet/cri/streaming/portforward/websocket.go).
PROTOCOL = Subprotocol("v4.channel.k8s.io")
DATA, ERROR = b"\0", b"\1"
_WRITE_BYTES = 1024 * 1024
_LONGEST_FRAME_BYTES = 16 * 1024 * 1024
_OPEN_SECONDS = 30.0
_HANG_UP_SECONDS = 1.0
_CLOSE_SECONDS = 10.0

Dial = Callable[[], Awaitable[ClientConnection]]


@contextmanager
def forwarded_socket(path: Path, dial: Dial) -> Iterator["Forwarder"]:
    """Given the path of a Unix socket to make and a function that opens a connection to the Pod, pass bytes between them within the block."""
    forwarder = Forwarder(path, dial)
    try:
        yield forwarder
    finally:
        forwarder.close()


class Forwarder:
    """Listens on a Unix socket, in a thread of its own; each connection gets one of its own to the Pod."""

    def __init__(self, path: Path, dial: Dial) -> None:
        self._dial = dial
        self._serving: set[asyncio.Task[None]] = set()
        # The last reason why the Pod could not be reached: a client only sees that its connection was closed.
        self.last_error = ""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="pod-forward", daemon=True)
        self._thread.start()
        listening = asyncio.start_unix_server(self._serve, path, limit=BLOCK_BYTES)
        try:
            self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result()
        except BaseException:
            self._end_loop()
            raise

    def close(self) -> None:
        """Close the listener and every connection, and wait for the thread."""
        if self._loop.is_closed():
            return
        try:
            asyncio.run_coroutine_threadsafe(self._hang_up(), self._loop).result(_CLOSE_SECONDS)
        except TimeoutError:
            logger.warning("connections to the Pod did not end within %.0f s", _CLOSE_SECONDS)
        self._end_loop()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _hang_up(self) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - for the type checker: we are in one
        self._serving.add(task)
        try:
            pod = await self._dial()
            try:
                await _exchange(reader, writer, pod)
            finally:
                await pod.close()
        except asyncio.CancelledError:
            logger.debug("a connection to the Pod was ended from here")
        except (NightshiftError, OSError, WebSocketException) as error:
            self.last_error = str(error) if isinstance(error, NightshiftError) else f"{type(error).__name__}: {error}"
            logger.warning("could not reach the Pod: %s", self.last_error)
        finally:
            self._serving.discard(task)
            writer.close()
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pod: ClientConnection) -> None:
    """Pass bytes on until one end closes, then end both: a PostgreSQL session has no use for half a connection. Raise what went wrong."""
    directions = [asyncio.create_task(_to_pod(reader, pod)), asyncio.create_task(_from_pod(pod, writer))]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for direction in directions:
            direction.cancel()
        ended = await asyncio.gather(*directions, return_exceptions=True)
    for error in ended:
        # That an end is closed is no error, whoever closed it.
        if isinstance(error, Exception) and not isinstance(error, ConnectionClosed | ConnectionError):
            raise error


async def _to_pod(reader: asyncio.StreamReader, pod: ClientConnection) -> None:
    while block := await reader.read(BLOCK_BYTES):
        # Returns when the connection has room again.
        await pod.send(DATA + block)


async def _from_pod(pod: ClientConnection, writer: asyncio.StreamWriter) -> None:
    begun: set[bytes] = set()
    while True:
        frame = await pod.recv(decode=False)
        channel = frame[:1]
        if channel not in begun:
            begun.add(channel)  # the port's number
        elif channel == DATA:
            writer.write(memoryview(frame)[1:])
            await writer.drain()
        elif channel == ERROR:
            raise TemporaryError("forward a port", "the Pod", frame[1:].decode(errors="replace").strip())


def pod_dialer(context: str | None, namespace: str, pod: str, port: int) -> Dial:
    """Given where a Pod is, return a function that opens a connection to one of its ports.

    Each connection loads its credentials anew: those of a managed cluster last minutes. Raise (in the function) ConfigurationError without a cluster,
    TemporaryError when the API server refuses the connection.
    """
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/portforward?{urlencode({'ports': port})}"

    async def dial() -> ClientConnection:
        # In a thread: a plugin that fetches credentials takes its time, and other connections go on meanwhile.
        connection = await asyncio.to_thread(find_connection, context)
        tls: dict[str, Any] = {"ssl": connection.tls} if connection.server.startswith("https:") else {}
        if connection.tls_server_name:
            tls["server_hostname"] = connection.tls_server_name
        try:
            line = await connect(
                f"ws{connection.server.removeprefix('http')}{path}",
                subprotocols=[PROTOCOL],
                compression=None,
                additional_headers={"Authorization": f"Bearer {connection.token}"} if connection.token else {},
                user_agent_header="nightshift",
                proxy=connection.proxy or True,
                open_timeout=_OPEN_SECONDS,
                close_timeout=_HANG_UP_SECONDS,
                # A Pod that does not read for a while, since it has much to do, does not answer either: TCP says whether the other side lives.
                ping_interval=None,
                max_size=_LONGEST_FRAME_BYTES,
                write_limit=_WRITE_BYTES,
                logger=_quiet,
                **tls,
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            raise TemporaryError("forward a port", f"Pod {namespace}/{pod}", _reason(error)) from error
        _keep_alive(line.transport.get_extra_info("socket"))
        return line

    return dial


def _keep_alive(tcp: socket.socket) -> None:
    """Have the kernel ask every half minute whether the other side lives: balancers forget silent connections, and a restore may be silent for hours."""
    for level, option, value in (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    ):
        tcp.setsockopt(level, option, value)


def _reason(error: Exception) -> str:
    """What the API server says of a connection that it refused, else the error itself."""
    if isinstance(error, InvalidStatus):
        said = ""
        with suppress(ValueError, AttributeError):
            said = str(json.loads(error.response.body or b"{}").get("message") or "")
        return f"{error.response.status_code}: {said or error.response.reason_phrase}"
    return f"{type(error).__name__}: {error}".removesuffix(": ")
