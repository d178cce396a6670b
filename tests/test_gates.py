"""The metric gate against a scripted Prometheus: whatever it answers but good data holds a release."""

import math
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.environment_gates import Gates
from core.gate_readings import PodSide
from core.metric_gate import hold
from tasks.gates import check_metrics
from tasks.prometheus import PrometheusClient
from tests.fix_prometheus_api import PrometheusApi

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
NEW, OLD = (
    PodSide(names=("api-new-1",), replica_sets=("api-new",)),
    PodSide(names=("api-old-1",), replica_sets=("api-old",)),
)


class World:
    """What both versions did: requests, errors and slow ones per scrape, every 15 seconds."""

    def __init__(self) -> None:
        self.new: dict[str, float] = {"requests": 50, "errors": 0, "slow": 0}
        self.old: dict[str, float] = {"requests": 50, "errors": 0, "slow": 0}
        self.last_value: str | None = None

    def answer(self, query: str, at: float) -> list[dict[str, Any]]:
        """As Prometheus answers a range selector."""
        pod, did = ("api-new-1", self.new) if "api-new" in query else ("api-old-1", self.old)
        if query.startswith("up"):
            return [self._series({"__name__": "up", "pod": pod}, at, 0, 1)]
        if query.startswith("http_request_duration"):
            fast = self._series({"pod": pod, "le": "1"}, at, did["requests"] - did["slow"])
            return [fast, self._series({"pod": pod, "le": "+Inf"}, at, did["requests"])]
        good = self._series({"pod": pod, "status": "200"}, at, did["requests"] - did["errors"])
        bad = self._series({"pod": pod, "status": "500"}, at, did["errors"])
        return [good, bad] if did["errors"] else [good]

    def _series(self, labels: dict[str, str], at: float, each: float, begin: float = 1000) -> dict[str, Any]:
        times = [at - 3 - 15 * step for step in range(28)][::-1]
        values = [[time, f"{begin + each * index:g}"] for index, time in enumerate(times)]
        if self.last_value is not None and labels.get("__name__") != "up":
            values[-1][1] = self.last_value
        return {"metric": labels, "values": values}


@pytest.fixture
def world(prometheus_api: PrometheusApi) -> World:
    made = World()
    prometheus_api.answer = made.answer
    return made


@pytest.fixture
def check(prometheus_api: PrometheusApi) -> Callable[..., Any]:
    def checked(old: PodSide | None = OLD, since: datetime | None = None, **settings: Any) -> Any:
        gates = Gates(prometheus_url=prometheus_api.address, **settings)
        return check_metrics(
            gates,
            new=NEW,
            old=old,
            since=since,
            clock=lambda: NOW,
            connect=lambda asked: PrometheusClient(str(asked.prometheus_url), sleep=lambda _seconds: None, patience=3),
        )

    return checked


def test_a_version_that_does_well_passes(
    world: World, check: Callable[..., Any], prometheus_api: PrometheusApi
) -> None:
    verdict = check()
    assert verdict.state == "pass"
    assert verdict.findings[0].found.startswith(
        "0 of 1000 requests of the new version failed (0.00%), allowed are 1.00%; 0 of 1000"
    )
    # Buckets, scrapes and requests, of each side; one request each.
    assert len(prometheus_api.asked) == 6


def test_half_of_the_requests_failing_fails(world: World, check: Callable[..., Any]) -> None:
    world.new["errors"] = 25
    verdict = check()
    assert (verdict.state, "500 of 1000" in verdict.found) == ("fail", True)
    assert hold([verdict], NOW, 15).action == "go-back"


def test_slow_requests_fail_by_themselves(world: World, check: Callable[..., Any]) -> None:
    world.new["slow"] = 10
    verdict = check()
    assert verdict.state == "fail"
    assert verdict.found == (
        "200 of 1000 requests of the new version took longer than 1 s (20.00%), allowed are 5.00%; "
        "0 of 1000 of the old (0.00%), allowed is 2 times that"
    )
    off = check(durations="")
    assert (off.state, off.findings[1].state) == ("pass", "not configured")


def test_a_version_no_worse_than_a_bad_old_one_passes_only_within_the_absolute_limit(
    world: World, check: Callable[..., Any]
) -> None:
    world.new["errors"] = world.old["errors"] = 5
    assert check().state == "fail"
    assert check(error_ratio_max=0.5).state == "pass"


@pytest.mark.parametrize(("each", "state"), [(0.15, "inconclusive"), (0, "inconclusive"), (5, "pass")])
def test_few_requests_hold(world: World, check: Callable[..., Any], each: float, state: str) -> None:
    world.new["requests"] = each
    assert check().state == state


def test_three_requests_that_all_failed_hold(world: World, check: Callable[..., Any]) -> None:
    world.new = {"requests": 0.15, "errors": 0.15, "slow": 0}
    verdict = check()
    assert (verdict.state, "3 of 3 requests" in verdict.found) == ("inconclusive", True)


@pytest.mark.parametrize("value", ["NaN", "+Inf", "-Inf", "-1"])
def test_a_value_that_is_no_count_holds(world: World, check: Callable[..., Any], value: str) -> None:
    world.last_value = value
    verdict = check()
    assert (verdict.state, "which no counter has" in verdict.found) == ("inconclusive", True)
    assert not math.isfinite(float(value)) or float(value) < 0


def test_an_empty_answer_holds(prometheus_api: PrometheusApi, check: Callable[..., Any]) -> None:
    verdict = check()
    assert (verdict.state, "empty is not zero" in verdict.found) == ("inconclusive", True)


@pytest.mark.parametrize(
    "failure",
    [
        (0, "", {}),
        (503, "starting up", {}),
        (429, "", {"Retry-After": "1"}),
        (500, "", {}),
        (400, '{"status":"error","error":"parse error"}', {}),
        (401, "", {}),
        (404, "", {}),
        (302, "", {"Location": "/login"}),
        (200, "<html>", {}),
        (200, '{"status":"success","data":{"resultType":"vector","result":[]}}', {}),
    ],
)
def test_a_prometheus_that_answers_badly_holds(
    prometheus_api: PrometheusApi, check: Callable[..., Any], failure: tuple[int, str, dict[str, str]]
) -> None:
    prometheus_api.always = failure
    verdict = check()
    assert (verdict.state, verdict.found.startswith("metrics are not known: could not query Prometheus")) == (
        "inconclusive",
        True,
    )


def test_one_answer_of_several_that_is_partial_holds(
    world: World, prometheus_api: PrometheusApi, check: Callable[..., Any]
) -> None:
    prometheus_api.extra = {"warnings": ["a store did not answer"]}
    assert check().state == "inconclusive"


def test_a_prometheus_that_is_slow_or_away_holds(prometheus_api: PrometheusApi, check: Callable[..., Any]) -> None:
    prometheus_api.slow_seconds = 10
    assert check().state == "inconclusive"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        gates = Gates(prometheus_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        assert check_metrics(gates, new=NEW, old=OLD).state == "inconclusive"


def test_a_secret_that_is_not_there_holds(prometheus_api: PrometheusApi) -> None:
    gates = Gates(prometheus_url=prometheus_api.address, prometheus_token="env:NIGHTSHIFT_TEST_NOT_SET")
    verdict = check_metrics(gates, new=NEW, old=OLD)
    assert (verdict.state, "no such variable" in verdict.found) == ("inconclusive", True)


def test_without_an_address_it_is_not_configured_and_no_pass() -> None:
    for gates in (Gates(), Gates(prometheus_url="http://127.0.0.1:1", metrics=False)):
        verdict = check_metrics(gates, new=NEW, old=OLD)
        assert (verdict.state, "metrics were not looked at" in verdict.found) == ("not configured", True)


def test_no_ready_pod_of_the_new_version_holds(prometheus_api: PrometheusApi) -> None:
    assert check_metrics(Gates(prometheus_url=prometheus_api.address), new=None, old=OLD).state == "inconclusive"


def test_without_an_old_version_beside_it_the_absolute_limit_decides_and_says_so(
    world: World, check: Callable[..., Any]
) -> None:
    verdict = check(old=None)
    assert (verdict.state, "no old version beside it" in verdict.found) == ("pass", True)
    world.new["errors"] = 25
    assert check(old=None).state == "fail"


@pytest.mark.parametrize(("apart", "said"), [(60, "before ours"), (-600, "after ours")])
def test_a_clock_that_is_not_ours_holds(
    world: World, prometheus_api: PrometheusApi, check: Callable[..., Any], apart: float, said: str
) -> None:
    prometheus_api.clock_apart = apart
    verdict = check()
    assert verdict.state == "inconclusive"
    assert verdict.found.startswith("metrics are not of now: the clock of Prometheus goes ")
    assert verdict.found.endswith(said)


def test_what_was_before_the_shift_does_not_count(world: World, check: Callable[..., Any]) -> None:
    world.new["errors"] = 25
    assert "75 of 150 requests" in check(since=NOW - timedelta(seconds=40)).found
    nothing_yet = check(since=NOW)
    assert (nothing_yet.state, "0 of 0 requests" in nothing_yet.found) == ("inconclusive", True)
