"""A small gateway: an HTTP proxy that obeys weights, and counts which Service really got requests. And a client that never pauses.

It reads the weights (an HTTPRoute's, or a load balancer's own) and the EndpointSlices ten times a second, picks a Service by smooth weighted round robin (so
the shares are exact, not drawn), and one of its ready addresses in turn. Rules' matches and filters are not looked at: it takes the first that has backends.
"""

import http.client
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tasks.endpoints import chosen_by, endpoint_kind
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tests.waiting import wait_until


class SplittingProxy:
    """Use it as a context manager; `address` is where clients go. `served`: requests by Service; `failed`: those that got no answer.

    `route`: the name of the HTTPRoute whose weights it obeys; or a function that gives them.

    `periods`: the weights that it found, one after the other, and the requests by Service that were served under each.
    """

    def __init__(self, namespace: str, route: str | Callable[[], dict[str, int]]) -> None:
        self.served: Counter[str] = Counter()
        self.failed: list[str] = []
        self.periods: list[tuple[dict[str, int], Counter[str]]] = []
        self._namespace, self._route = namespace, route
        self._lock, self._ended, self._turn = threading.Lock(), threading.Event(), 0
        self._weights: dict[str, int] = {}
        self._credit: Counter[str] = Counter()
        self._addresses: dict[str, list[tuple[str, int]]] = {}
        self._client = KubernetesClient.open(None)
        self._refresh()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self._threads = [
            threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True),
            threading.Thread(target=self._follow, daemon=True),
        ]

    def __enter__(self) -> "SplittingProxy":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
        self._client.__exit__()

    def weight(self, service: str) -> int:
        """The weight of a Service, as it was last read."""
        return self._weights.get(service, 0)

    def counted(self) -> dict[str, int]:
        """What was served since the last time that this was asked."""
        with self._lock:
            counts, self.served = dict(self.served), Counter()
        return counts

    def pick(self) -> tuple[str, tuple[str, int] | None]:
        """The Service that is next, and one of its addresses (None: it has none)."""
        with self._lock:
            self._credit.update(self._weights)
            service = max(self._weights, key=lambda name: self._credit[name])
            self._credit[service] -= sum(self._weights.values())
            self.served[service] += 1
            self.periods[-1][1][service] += 1
            self._turn += 1
            addresses = self._addresses.get(service) or []
            return service, addresses[self._turn % len(addresses)] if addresses else None

    def _follow(self) -> None:
        while not self._ended.wait(0.1):
            self._refresh()

    def _route_weights(self, name: str) -> dict[str, int]:
        route = self._client.get(find_kind(self._client, "HTTPRoute").path(self._namespace, name))
        refs = next(rule["backendRefs"] for rule in route["spec"]["rules"] if rule.get("backendRefs"))
        return {ref["name"]: ref.get("weight", 1) for ref in refs}

    def _refresh(self) -> None:
        weights = self._route_weights(self._route) if isinstance(self._route, str) else self._route()
        kind = endpoint_kind(self._client)
        addresses = {}
        for service in weights:
            slices = self._client.get(kind.path(self._namespace), **chosen_by(kind, service))["items"]
            addresses[service] = [
                (address, one["ports"][0]["port"])
                for one in slices
                for endpoint in one["endpoints"] or ()
                if endpoint["conditions"].get("ready") is not False
                for address in endpoint["addresses"]
            ]
        with self._lock:
            if weights != self._weights:
                self._credit.clear()
                self.periods.append((weights, Counter()))
            self._weights, self._addresses = weights, addresses


class _Handler(BaseHTTPRequestHandler):
    proxy: SplittingProxy

    def log_message(self, *_arguments: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        service, address = self.proxy.pick()
        status, content = 503, b"no ready address"
        if address is not None:
            server = http.client.HTTPConnection(*address, timeout=5)
            try:
                server.request("GET", self.path)
                answer = server.getresponse()
                status, content = answer.status, answer.read()
            except OSError as error:
                self.proxy.failed.append(f"{service}: {error!r}")
                status, content = 502, repr(error).encode()
            finally:
                server.close()
        self.send_response(status)
        self.send_header("X-Served-By", service)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Hammer:
    """A client that asks one address without a pause, each time over a new connection, and keeps when it was told what."""

    def __init__(self, address: str) -> None:
        self.answers: list[tuple[float, str]] = []
        self.failures: list[str] = []
        self._address, self._ended = address, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> "Hammer":
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def after(self, moment: float) -> set[str]:
        """The versions that answered what was asked from a moment on."""
        return {version for asked, version in self.answers if asked >= moment}

    def only_answers(self, version: str) -> None:
        """Hold that from now on this version alone answers."""
        moment = time.monotonic()
        wait_until(lambda: sum(asked >= moment for asked, _ in self.answers) >= 100, "100 more answers")
        assert self.after(moment) == {version}

    def _work(self) -> None:
        while not self._ended.is_set():
            asked = time.monotonic()
            connection = http.client.HTTPConnection(self._address, timeout=20)
            try:
                connection.request("GET", "/x")
                self.answers.append((asked, str(json.loads(connection.getresponse().read())["version"])))
            except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            finally:
                connection.close()
