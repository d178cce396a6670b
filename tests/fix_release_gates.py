"""A release whose metric gates are read in earnest: what the Pods of both sides count, as a scripted Prometheus has it, and time that passes by waiting alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tasks.gates import check_metrics
from tasks.pod_health import check_pods
from tasks.prometheus import PrometheusClient
from tests.fix_kubernetes import KubernetesApi
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage

SCRAPE_SECONDS = 15
HOLD_MINUTES = 5


class PassingTime:
    """Seconds that somebody waits for pass at once, and nothing else makes time pass: however slow the machine, a soak has all its seconds.

    Stands for the module `time` where a release waits."""

    def __init__(self) -> None:
        self.passed = 0.0
        self._then: list[tuple[float, Callable[[], object]]] = []

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something once so much was waited from now on."""
        self._then.append((self.passed + seconds, action))

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.passed += seconds
        due = [action for at, action in self._then if at <= self.passed]
        self._then = [(at, action) for at, action in self._then if at > self.passed]
        for action in due:
            action()

    def monotonic(self) -> float:
        """As time.monotonic, from 0 on."""
        return self.passed

    def now(self) -> datetime:
        """The time of day."""
        return datetime.now(UTC) + timedelta(seconds=self.passed)


@dataclass
class Did:
    """What one Pod did between two scrapes."""

    requests: float = 50
    errors: float = 0
    slow: float = 0


class Scraped:
    """What Prometheus has of the Pods of `stage`. `new`, `old`: what each Pod of the side does. `last`: the newest value of each counter, when it is to be another."""

    def __init__(self, api: KubernetesApi, namespace: str) -> None:
        self._api, self._namespace = api, namespace
        self.new, self.old = Did(), Did()
        self.last: str | None = None

    def answer(self, query: str, at: float) -> list[dict[str, Any]]:
        """As Prometheus answers a range selector: the series of all Pods that the query names."""
        asked = re.compile(query.partition('pod=~"')[2].partition('"')[0].replace("\\\\", "\\"))
        names = (one["metadata"]["name"] for one in self._api.select("v1", "pods", self._namespace, {}))
        return [series for name in names if asked.fullmatch(name) for series in self._of(name, query, at)]

    def _of(self, pod: str, query: str, at: float) -> list[dict[str, Any]]:
        did = self.new if pod.startswith("hello-blue-") else self.old
        if query.startswith("up{"):
            return [_series(at, 0, 1, __name__="up", pod=pod)]
        if query.startswith("http_request_duration"):
            labels = {"__name__": "http_request_duration_seconds_bucket", "pod": pod}
            fast = self._counter(at, did.requests - did.slow, **labels, le="1")
            return [fast, self._counter(at, did.requests, **labels, le="+Inf")]
        labels = {"__name__": "http_requests_total", "pod": pod}
        good = self._counter(at, did.requests - did.errors, **labels, status="200")
        return [good, self._counter(at, did.errors, **labels, status="500")] if did.errors else [good]

    def _counter(self, at: float, each: float, **labels: str) -> dict[str, Any]:
        made = _series(at, each, 1000, **labels)
        if self.last is not None:
            made["values"][-1][1] = self.last
        return made


def _series(at: float, each: float, begin: float, **labels: str) -> dict[str, Any]:
    times = [at - 3 - SCRAPE_SECONDS * step for step in range(28)][::-1]
    return {"metric": labels, "values": [[one, f"{begin + each * index:.3f}"] for index, one in enumerate(times)]}


@pytest.fixture
def passing_time(monkeypatch: pytest.MonkeyPatch) -> PassingTime:
    """What a release waits for at its gates is over at once, and the gates see the time that it would have been."""
    made = PassingTime()
    monkeypatch.setattr("tasks.release_gates.time", made)
    for module in ("release_gates", "shift_steps"):
        monkeypatch.setattr(f"tasks.{module}.utc_now", made.now)
    for looked in (check_metrics, check_pods):
        monkeypatch.setitem(looked.__kwdefaults__, "clock", made.now)
    monkeypatch.setitem(check_pods.__kwdefaults__, "sleep", made.sleep)
    monkeypatch.setitem(PrometheusClient.__init__.__kwdefaults__, "sleep", made.sleep)
    return made


@pytest.fixture
def scraped(
    stage: Stage, kubernetes: KubernetesApi, prometheus_api: PrometheusApi, passing_time: PassingTime
) -> Scraped:
    """`stage` whose releases ask a Prometheus that has both sides doing well, and hold five minutes at most."""
    made = Scraped(kubernetes, stage.namespace)
    prometheus_api.answer = made.answer
    stage.settings["release"]["gates"] = {"prometheus_url": prometheus_api.address, "hold_minutes": HOLD_MINUTES}
    return made
