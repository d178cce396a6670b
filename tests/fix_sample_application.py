"""A sample application of several services whose knobs turn, for a real Prometheus that scrapes it, and whose day lasts half a minute.

Time is an input: each service has a clock of its own that stands still until it is told how far it may run (`Application.run`). Each scrape then takes it some
minutes further, and carries a sample of each of those minutes with its time (the exposition format's timestamps, which Prometheus honours), so that an hour is
a few scrapes. Knobs (`Knobs`) are turned by HTTP, while all clocks stand.

What differs from a Prometheus that takes a day: series that end get no staleness marker, as always with times in the exposition; its own series `up` is of the
real time, so the service ITSELF stands for it, which is scraped whenever anything is; and samples of weeks ago are out of order beside that `up`, which
`out_of_order_time_window` allows.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from tests.fix_prometheus import run_prometheus
from tests.waiting import wait_until

SCRAPE = "100ms"
ITSELF = "itself"
_MINUTE = 60


@dataclass
class Knobs:
    """What a service does.

    Args:
        requests: a minute's mean, of all its Pods together.
        errors, slow: the shares that fail, and that take two seconds.
        counter: what its counter of requests is called.
        restarts: its Pods begin anew after so many minutes, and their counters with them; 0: they never do.
    """

    requests: float = 120
    errors: float = 0.005
    slow: float = 0.01
    counter: str = "http_requests_total"
    restarts: int = 0


class Service:
    """One target of Prometheus. What it says of a minute is told again until Prometheus comes back on the same connection, and so has read it."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.knobs = name, Knobs()
        self.now, self.until, self.step = 0, 0, 1
        self._random = np.random.default_rng([7, number])
        self._pods: dict[str, Any] = {}
        self._age = 0
        self._told: list[str] = []
        self._lock = threading.Lock()
        handler = type("OwnHandler", (_Handler,), {"service": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.gone = False
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def turn(self, **knobs: Any) -> None:
        """Turn knobs, as whoever plays with the application does it: by HTTP."""
        httpx.post(f"http://127.0.0.1:{self.port}/knobs", json=knobs).raise_for_status()

    def deploy(self, pods: Sequence[str]) -> None:
        """These Pods serve from now on."""
        with self._lock:
            self._pods, self._age = {one: np.zeros(3) for one in pods}, 0

    def end(self) -> None:
        """Its process ends: connections are cut, and refused from now on."""
        self.gone = True
        self._server.shutdown()
        self._server.server_close()

    def run(self, until: int, step: int) -> None:
        """Let its clock run to a time (seconds since the epoch), so many minutes a scrape."""
        with self._lock:
            self.until, self.step = until, step

    def pass_by(self, until: int) -> None:
        """Run to a time while nobody scrapes: it serves, and what it counts is seen afterwards."""
        with self._lock:
            while self.now < until:
                self._serve_a_minute()
            self.until = until

    @property
    def stands(self) -> bool:
        """Whether its clock ran as far as it may, and Prometheus has read all."""
        with self._lock:
            return self.gone or (self.now >= self.until and not self._told)

    def set_knobs(self, knobs: dict[str, Any]) -> None:
        """What a request for it says."""
        unknown = set(knobs) - {one.name for one in fields(Knobs)}
        assert not unknown, unknown
        with self._lock:
            self.knobs = Knobs(**asdict(self.knobs) | knobs)

    def scraped(self, has_read: bool) -> str:
        """The text of a scrape. `has_read`: the one before was read."""
        with self._lock:
            if has_read:
                self._told = []
            for _ in range(0 if self._told else self.step):
                if self.now < self.until:
                    self._told += self._serve_a_minute()
            return "".join(self._told)

    def _serve_a_minute(self) -> list[str]:
        self.now += _MINUTE
        if self.name == ITSELF:
            return [f'up{{job="{self.name}"}} 1 {self.now}000\n']
        knobs, self._age = self.knobs, self._age + 1
        lines = []
        for pod, counts in self._pods.items():
            if knobs.restarts and self._age % knobs.restarts == 0:
                counts[:] = 0
            served = self._random.poisson(knobs.requests / len(self._pods))
            failed = self._random.binomial(served, knobs.errors)
            np.add(counts, (served - failed, failed, self._random.binomial(served, knobs.slow)), out=counts)
            lines += self._samples(pod, *counts)
        return lines

    def _samples(self, pod: str, good: float, failed: float, slow: float) -> Iterator[str]:
        labels = f'service="{self.name}",pod="{pod}",route="/x"'
        told = {f'{self.knobs.counter}{{{labels},status="200"}}': good}
        # As client libraries do it: a series is there once it was counted.
        told |= {f'{self.knobs.counter}{{{labels},status="500"}}': failed} if failed else {}
        bucket = f"http_request_duration_seconds_bucket{{{labels},le"
        told |= {f'{bucket}="1.0"}}': good + failed - slow, f'{bucket}="+Inf"}}': good + failed}
        return (f"{series} {value:.0f} {self.now}000\n" for series, value in told.items())


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_arguments: Any) -> None:
        """A connection that Prometheus cut; what it carried is told again."""


class _Handler(BaseHTTPRequestHandler):
    service: Service
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    requests = 0

    def do_GET(self) -> None:
        if self.service.gone:
            self.close_connection = True
            return
        # Prometheus uses a connection again only when it read the whole of the last answer: one that it gave up (time-out) it closes.
        text = self.service.scraped(has_read=self.requests > 0)
        self.requests += 1
        self._send(200, text)

    def do_POST(self) -> None:
        self.service.set_knobs(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self._send(204, "")

    def _send(self, code: int, text: str) -> None:
        raw = text.encode()
        try:
            self.send_response(code)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def log_message(self, *_arguments: Any) -> None:
        pass


@dataclass
class Application:
    """All services, with one time for all of them once they stand, and the Prometheus that scrapes them."""

    folder: Path
    port: int
    services: dict[str, Service] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """Where Prometheus is."""
        return f"http://127.0.0.1:{self.port}"

    def jump(self, to: int) -> None:
        """Nothing happens until a time: neither is it served nor scraped."""
        for one in self.services.values():
            one.now = one.until = to

    def start(self, to: int, step: int) -> None:
        """Let all clocks run to a time."""
        for one in self.services.values():
            one.run(to, step)

    def run(self, to: int, step: int = 5) -> None:
        """Let all clocks run to a time, and wait until they stand there and Prometheus has read it all."""
        self.start(to, step)
        self.wait()

    def wait(self) -> None:
        """Wait until all clocks stand."""
        wait_until(lambda: all(one.stands for one in self.services.values()), "everything was scraped", seconds=120)

    def pass_by(self, to: int) -> None:
        """Let all clocks run to a time while there is no Prometheus."""
        for one in self.services.values():
            one.pass_by(to)

    @contextmanager
    def scraped(self) -> Iterator[None]:
        """A Prometheus scrapes all services while the block runs, and then ends by SIGTERM; its data stay."""
        targets = [
            {"targets": [f"127.0.0.1:{one.port}"], "labels": {"target": one.name}} for one in self.services.values()
        ]
        document = {
            "global": {"scrape_interval": SCRAPE, "scrape_timeout": SCRAPE},
            "storage": {"tsdb": {"out_of_order_time_window": "100y"}},
            "scrape_configs": [
                {"job_name": "services", "honor_timestamps": True, "honor_labels": True, "static_configs": targets}
            ],
        }
        with run_prometheus(self.folder, document, "--storage.tsdb.retention.time=100y", port=self.port):
            yield


@contextmanager
def sample_application(folder: Path, port: int, names: Sequence[str]) -> Iterator[Application]:
    """Services of these names, and ITSELF, while the block runs; their clocks stand."""
    found = Application(folder, port, {name: Service(name, number) for number, name in enumerate((ITSELF, *names))})
    try:
        yield found
    finally:
        for one in found.services.values():
            if not one.gone:
                one.end()
