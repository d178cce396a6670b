"""Traffic by a Service's selector: switched at once, and told only when its endpoints are the other side's Pods."""

import threading
import time
from collections.abc import Callable

import pytest

from core.environment_release import Release
from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.traffic import split_between
from tasks.kubernetes_answers import ForbiddenError
from tasks.open_traffic import open_traffic
from tasks.traffic import NotEffectiveError
from tasks.traffic_alb import AlbTraffic
from tasks.traffic_httproute import RouteTraffic
from tasks.traffic_service import ServiceTraffic
from tests.fix_sides import BLUE, GREEN, NAMESPACE, Sides

ALL_BLUE, ALL_GREEN = split_between(BLUE, GREEN, 0), split_between(BLUE, GREEN, 100)
SERVICE = ("v1", "services", NAMESPACE, "api-server")


def ours() -> None:
    """Nobody took the lease away."""


def traffic(sides: Sides) -> ServiceTraffic:
    return ServiceTraffic(sides.client, NAMESPACE, "api-server", BLUE, GREEN)


def later(seconds: float, what: Callable[[], object]) -> threading.Thread:
    thread = threading.Timer(seconds, what)
    thread.start()
    return thread


@pytest.mark.parametrize(
    ("slices", "absent"),
    [
        ("discovery.k8s.io/v1", set()),
        ("discovery.k8s.io/v1beta1", {"discovery.k8s.io/v1"}),
        ("", {"endpointslices"}),
    ],
)
def test_a_switch_is_told_when_the_endpoints_are_the_other_sides_pods(
    sides: Sides, slices: str, absent: set[str]
) -> None:
    sides.slices, sides.api.absent = slices, absent
    sides.settle()
    shift = sides.stamped(traffic(sides))
    assert shift.read() == ALL_BLUE
    assert shift.effective(ALL_BLUE).state == "effective"
    shift.write(sides.fence, ALL_BLUE, ALL_GREEN)
    before = shift.effective(ALL_GREEN)
    assert (before.state, before.found) == (
        "pending",
        "Service api-server still leads to 2 others than the ready Pods of green (blue-1, blue-2)",
    )
    thread = later(0.5, sides.settle)
    began = time.monotonic()
    told = shift.wait_effective(ALL_GREEN, 30, ours)
    thread.join()
    assert told.found == "Service api-server leads to the 2 ready Pods of green"
    # The watch wakes it: it does not wait until the next look.
    assert time.monotonic() - began < 3
    assert sides.api.read(*SERVICE)["spec"]["selector"] == GREEN.selector


def test_keys_of_the_old_selector_do_not_stay(sides: Sides) -> None:
    sides.api.merge(*SERVICE, {"spec": {"selector": {"pod-template-hash": "1"}}})
    # A label that the side's own list does not name: whose Pods these are is not known.
    with pytest.raises(PermanentError, match=r"\(Service api-server in namespace .*neither"):
        traffic(sides).read()
    blue = BLUE.model_copy(update={"selector": {**BLUE.selector, "pod-template-hash": "1"}})
    shift = ServiceTraffic(sides.client, NAMESPACE, "api-server", blue, GREEN)
    sides.stamped(shift).write(sides.fence, ALL_BLUE, ALL_GREEN)
    assert sides.api.read(*SERVICE)["spec"]["selector"] == GREEN.selector


def test_a_pod_that_is_ready_but_not_an_endpoint_yet_is_waited_for(sides: Sides) -> None:
    sides.pod("blue-3", BLUE, "10.0.1.3")
    told = traffic(sides).effective(ALL_BLUE)
    assert told.found == "Service api-server does not lead to 1 of 3 ready Pods of blue yet (blue-3)"


def test_a_switch_that_never_comes_about_ends_with_an_error(sides: Sides) -> None:
    shift = sides.stamped(traffic(sides))
    shift.write(sides.fence, ALL_BLUE, ALL_GREEN)
    with pytest.raises(NotEffectiveError) as raised:
        shift.wait_effective(ALL_GREEN, 1, ours)
    assert "not within 1 s: Service api-server still leads to 2 others" in str(raised.value)


def test_an_api_server_that_is_away_is_waited_out(sides: Sides) -> None:
    sides.api.fail("GET", "/services/api-server", 503, times=6)
    assert traffic(sides).wait_effective(ALL_BLUE, 60, ours).state == "effective"


def test_an_api_server_that_stays_away_is_no_verdict_on_the_balancer(sides: Sides) -> None:
    sides.api.fail("GET", "/services/api-server", 503, times=1000)
    with pytest.raises(TemporaryError):
        traffic(sides).wait_effective(ALL_BLUE, 1, ours)


@pytest.mark.parametrize("part", ["/endpointslices", "/apis/discovery.k8s.io/v1"])
def test_a_missing_right_is_named_and_not_taken_for_a_cluster_without_slices(sides: Sides, part: str) -> None:
    sides.api.fail("GET", part, 403, times=5)
    with pytest.raises(ForbiddenError, match=part):
        traffic(sides).effective(ALL_BLUE)


def test_the_looks_are_few_however_often_the_endpoints_change(sides: Sides) -> None:
    shift = sides.stamped(traffic(sides))
    shift.write(sides.fence, ALL_BLUE, ALL_GREEN)
    ended = threading.Event()

    def flap() -> None:
        state = False
        while not ended.wait(0.02):
            state = not state
            sides.ready("blue-1", state)
            service = sides.api.read(*SERVICE)
            sides.lead("api-server", [], [sides.api.read("v1", "pods", NAMESPACE, "blue-1")] if state else [])
            assert service

    thread = threading.Thread(target=flap)
    thread.start()
    began, before = time.monotonic(), len(sides.api.requests)
    with pytest.raises(NotEffectiveError):
        shift.wait_effective(ALL_GREEN, 3, ours)
    ended.set()
    thread.join()
    assert (len(sides.api.requests) - before) / (time.monotonic() - began) <= 10


def release(**traffic: str) -> Release:
    return Release.model_validate(
        {
            "namespace": NAMESPACE,
            "repository": "r/api-server",
            "workloads": [{"name": "api-server"}],
            "traffic": traffic,
        }
    )


def test_the_environment_says_how_traffic_is_shifted(sides: Sides) -> None:
    def opened(**settings: str) -> object:
        return open_traffic(sides.client, release(**settings), "staging", BLUE, GREEN)

    assert isinstance(opened(kind="service", name="api-server"), ServiceTraffic)
    assert isinstance(opened(kind="httproute", name="api-server"), RouteTraffic)
    assert isinstance(opened(kind="alb", name="web", action="api-server"), AlbTraffic)
    with pytest.raises(ConfigurationError, match=r"release.traffic.kind is .none."):
        opened()
