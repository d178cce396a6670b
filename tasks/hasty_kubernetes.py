"""A client of the Kubernetes API for who has two seconds: all of its requests together take no longer than that, none is repeated, and no answer is read without end.

A tick of a watch looks at several places and comes again in five minutes: what did not answer now is said, and asked again then.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import httpx

from core.errors import PermanentError, TemporaryError
from core.fence import Document
from tasks.kubeconfig import find_connection
from tasks.kubernetes_client import Connect, KubernetesClient, _Request

# A page of 500 Pods is some 5 MiB.
LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
_REACH = "Check that the worker reaches the API server, and the cluster's health"


class HastyClient(KubernetesClient):
    """Requests to one API server, for so many seconds from now on."""

    def __init__(self, connect: Connect, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(connect)
        self._clock, self._ends, self._seconds = clock, clock() + seconds, seconds

    @classmethod
    def within(cls, context: str | None, *, seconds: float) -> HastyClient:
        """Given a context of the kubeconfig, return a client. Raise ConfigurationError when there is no such context."""
        return cls(lambda: find_connection(context), seconds=seconds)

    def _patiently(self, asked: _Request) -> Document:
        return self._once(asked)

    def _built(self, asked: _Request) -> httpx.Request:
        request = super()._built(asked)
        left = max(0.001, self._ends - self._clock())
        request.extensions = {**request.extensions, "timeout": httpx.Timeout(left).as_dict()}
        return request

    def _exchanged(self, asked: _Request) -> httpx.Response:
        """The answer, read to its end."""
        on = self._on(asked.path)
        late = TemporaryError("read", on, f"it did not answer within {self._seconds:g} s", _REACH)
        if self._clock() > self._ends:
            raise late
        try:
            response = super()._exchanged(replace(asked, stream=True))
            try:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if self._clock() > self._ends:
                        raise late
                    if len(body) > LARGEST_ANSWER_BYTES:
                        raise PermanentError("read", on, "the answer is larger than 32 MiB", "Look at the address")
            finally:
                response.close()
        except httpx.TimeoutException as error:
            raise late from error
        kept = {name: response.headers[name] for name in ("Content-Type", "Retry-After") if name in response.headers}
        return httpx.Response(response.status_code, headers=kept, content=bytes(body), request=response.request)
