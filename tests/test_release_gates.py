"""What a release's report says of gates that nobody looked at, and what a rolling release's gates do: its metrics are not judged, its Pods' answers are."""

import pytest

from tests.fix_kubernetes import KubernetesApi
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage
from tests.fix_release_gates import HOLD_MINUTES, PassingTime, Scraped

pytestmark = pytest.mark.xdist_group("release-gates")

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}


@pytest.mark.parametrize(
    ("settings", "step"),
    [(BLUE_GREEN, "shift 100 % of the traffic"), ({}, "ask the Pods of deployment/hello")],
    ids=["blue-green", "rolling"],
)
def test_metrics_that_nobody_looked_at_are_said_so_and_are_no_pass(
    stage: Stage, settings: dict[str, object], step: str
) -> None:
    stage.settings["release"] |= settings
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    (found,) = [one for one in stage.reports()[-1].steps if one.name == step]
    assert any("metrics were not looked at" in one.text for one in found.findings)


ASKED = "ask the Pods of deployment/hello"


@pytest.mark.services
def test_a_rolling_release_says_that_metrics_were_not_judged_though_there_is_a_prometheus(
    stage: Stage, scraped: Scraped, prometheus_api: PrometheusApi
) -> None:
    scraped.new.errors = scraped.old.errors = 25
    state = stage.release("v2")
    assert state.is_completed(), state.message
    assert prometheus_api.queries == []
    (found,) = [one for one in stage.reports()[-1].steps if one.name == ASKED]
    told = "metrics were not looked at: a rolling release has no old version beside the new one"
    assert [(one.severity, one.text) for one in found.findings] == [("warning", told)]


@pytest.mark.services
def test_a_rolled_out_pod_whose_health_fails_brings_the_old_version_back_at_once(
    stage: Stage, scraped: Scraped, kubernetes: KubernetesApi, passing_time: PassingTime
) -> None:
    kubernetes.proxy = lambda _method, _plural, _name, path: (500 if path == "/health" else 200, "no database")
    state = stage.release("v2")
    assert state.name == "RolledBack", state.message
    assert "2 of 2 Pods are ready; hello-" in str(state.message)
    assert "answered 500 on /health (no database)" in str(state.message)
    assert stage.image_of() == stage.image("v1")
    assert passing_time.passed < HOLD_MINUTES * 60


@pytest.mark.services
@pytest.mark.parametrize("minutes", [HOLD_MINUTES - 1, HOLD_MINUTES + 1])
def test_rolled_out_pods_that_say_they_are_not_ready_hold_the_release_for_so_long_and_then_it_goes_back(
    stage: Stage, scraped: Scraped, kubernetes: KubernetesApi, passing_time: PassingTime, minutes: int
) -> None:
    kubernetes.proxy = lambda _method, _plural, _name, path: (503 if path == "/ready" else 200, "warming up")
    passing_time.after(minutes * 60, lambda: setattr(kubernetes, "proxy", None))
    state = stage.release("v2")
    if minutes < HOLD_MINUTES:
        assert state.is_completed(), state.message
        assert stage.image_of() == stage.image("v2")
    else:
        assert state.name == "RolledBack", state.message
        assert "not decided for 5 minutes: 2 of 2 Pods are ready; hello-" in str(state.message)
        assert "answered 503 on /ready (warming up)" in str(state.message)
        assert stage.image_of() == stage.image("v1")
