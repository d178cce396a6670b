"""uvicorn's HTTP protocol with a bound on how long the head of a request may take, which it has none for: else some hundred idle connections keep GitHub out."""

import asyncio
import socket
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0


class PatientProtocol(H11Protocol):
    """Closes a connection on which no whole head has come in time, the first one or a later one."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """As the base class; the time begins."""
        super().connection_made(transport)
        # asyncio does so for sockets that were made for TCP by name, which uvicorn's is not: without it an answer's body waits 40 ms for the other side's delayed ACK.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin()

    def data_received(self, data: bytes) -> None:
        """As the base class; the time ends once the head is whole, and begins with the next one's first byte."""
        if self._head_timer is None and self.conn.their_state is h11.IDLE:
            self._begin()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        """As the base class."""
        self._end()
        super().connection_lost(exc)

    def _begin(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _end(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()
