"""How traffic may move, what a Service's selector says, and the table [release.traffic]: rules without a server."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from core.environment_traffic import Traffic
from core.errors import PermanentError
from core.traffic import (
    Effective,
    Split,
    allowed_weight,
    lowered,
    must_write,
    service_patch,
    service_split,
    split_between,
    split_of_weights,
    worst,
)
from core.traffic_endpoints import Endpoint, judge_endpoints, listed_endpoints, slice_endpoints
from tests.fix_kubernetes_objects import merged
from tests.fix_sides import BLUE, GREEN

PERCENTS = st.integers(0, 100)
ALL_BLUE, ALL_GREEN = split_between(BLUE, GREEN, 0), split_between(BLUE, GREEN, 100)


def service(selector: dict[str, str] | None) -> dict[str, Any]:
    return {"metadata": {"name": "api-server"}, "spec": {"selector": selector}}


@given(PERCENTS)
def test_two_splits_are_equal_when_they_do_the_same(percent: int) -> None:
    split = split_between(BLUE, GREEN, percent)
    assert split.of(GREEN.service) == percent
    assert split.of(BLUE.service) == 100 - percent
    assert Split.model_validate_json(split.model_dump_json()) == split
    assert split_of_weights({GREEN.service: percent * 7, BLUE.service: (100 - percent) * 7}, on="x") == split


def test_shares_that_do_not_add_up_are_no_split() -> None:
    with pytest.raises(ValidationError, match="add up to 100"):
        Split(percent={"a": 50, "b": 49})


@given(PERCENTS, PERCENTS)
def test_a_compensation_only_ever_gives_the_new_side_less(has: int, percent: int) -> None:
    after = lowered(split_between(BLUE, GREEN, has), BLUE, GREEN, percent)
    assert after.of(GREEN.service) == min(has, percent)


@given(st.integers(0, 50), st.integers(0, 50), PERCENTS, PERCENTS)
def test_a_side_gets_no_more_than_its_ready_pods_can_take(ready: int, full: int, wanted: int, has: int) -> None:
    allowed = allowed_weight(ready, full, wanted, has)
    assert 0 <= allowed <= wanted
    if allowed > has:
        # So many percent of the load of `full` Pods is no more than `ready` Pods carry.
        assert allowed * full <= 100 * ready
    if ready >= full > 0:
        assert allowed == wanted


@pytest.mark.parametrize(
    ("ready", "full", "allowed"),
    [(0, 3, 0), (1, 3, 33), (2, 3, 66), (3, 3, 100), (9, 3, 100), (0, 0, 0), (3, 0, 0), (1, 30, 3), (29, 30, 96)],
)
def test_ready_pods_are_counted_in_whole_percents_rounded_down(ready: int, full: int, allowed: int) -> None:
    assert allowed_weight(ready, full, 100) == allowed


@given(PERCENTS, PERCENTS, PERCENTS)
def test_somebody_elses_split_is_never_written_over(found: int, expected: int, wanted: int) -> None:
    splits = [split_between(BLUE, GREEN, percent) for percent in (found, expected, wanted)]
    if found in {expected, wanted}:
        assert must_write(*splits, on="x") == (found != wanted)
    else:
        with pytest.raises(PermanentError) as raised:
            must_write(*splits, on="route api-server")
        assert all(str(split) in str(raised.value) for split in splits)


@pytest.mark.parametrize(
    ("weights", "found"),
    [
        ({"a": 0, "b": 0}, "the weights (a 0, b 0) add up to 0: no request is served"),
        ({"a": 1, "b": 2}, "the weights (a 1, b 2) are no whole percents, so not ours"),
    ],
)
def test_weights_that_are_no_split_are_refused(weights: dict[str, int], found: str) -> None:
    with pytest.raises(PermanentError) as raised:
        split_of_weights(weights, on="route x")
    assert found in str(raised.value)


def test_of_several_judgements_a_refusal_counts_before_what_is_only_pending() -> None:
    fine, other = Effective(state="effective", found="a"), Effective(state="effective", found="b")
    waiting, refused = Effective(state="pending", found="c"), Effective(state="refused", found="d")
    assert worst(fine, waiting, refused) == refused
    assert worst(fine, waiting) == waiting
    assert worst(fine, other).found == "a; b"


def test_a_services_selector_gives_all_to_the_side_whose_pods_it_takes() -> None:
    assert service_split(service(BLUE.selector), BLUE, GREEN, on="x") == ALL_BLUE
    assert service_split(service({"color": "green"}), BLUE, GREEN, on="x") == ALL_GREEN


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ({"app": "api-server"}, "its selector (app=api-server) takes the Pods of both sides"),
        ({"app": "other"}, "takes neither those of blue nor those of green"),
        ({**BLUE.selector, "pod": "1"}, "takes neither those of blue nor those of green"),
        (None, "its selector (empty) takes neither"),
    ],
)
def test_a_selector_that_takes_both_sides_or_neither_is_refused(selector: dict[str, str] | None, found: str) -> None:
    with pytest.raises(PermanentError) as raised:
        service_split(service(selector), BLUE, GREEN, on="Service api-server")
    assert found in str(raised.value)


@given(st.dictionaries(st.sampled_from(("app", "color", "track", "version")), st.just("x")))
def test_a_written_selector_is_the_sides_own_and_nothing_is_left_of_the_old_one(old: dict[str, str]) -> None:
    document = service(old)
    after = merged(document, service_patch(document, BLUE, GREEN, ALL_GREEN))
    assert after["spec"]["selector"] == GREEN.selector
    assert service_split(after, BLUE, GREEN, on="x") == ALL_GREEN


def test_a_selector_cannot_split() -> None:
    with pytest.raises(ValueError, match="cannot split"):
        service_patch(service(BLUE.selector), BLUE, GREEN, split_between(BLUE, GREEN, 50))


def pod(name: str, *, side: Any = GREEN, ready: bool = True, leaving: bool = False) -> dict[str, Any]:
    metadata = {"name": name, "labels": dict(side.selector), **({"deletionTimestamp": "now"} if leaving else {})}
    return {"metadata": metadata, "status": {"conditions": [{"type": "Ready", "status": str(ready)}]}}


@pytest.mark.parametrize(
    ("leads_to", "pods", "state", "found"),
    [
        ({"g1", "g2"}, [pod("g1"), pod("g2")], "effective", "leads to the 2 ready Pods of green"),
        ({"g1"}, [pod("g1"), pod("g2")], "pending", "does not lead to 1 of 2 ready Pods of green yet (g2)"),
        ({"g1", "b1"}, [pod("g1")], "pending", "still leads to 1 others than the ready Pods of green (b1)"),
        ({"g1", "g2"}, [pod("g1"), pod("g2", ready=False)], "pending", "still leads to 1 others"),
        ({"g1", "g2"}, [pod("g1"), pod("g2", leaving=True)], "pending", "still leads to 1 others"),
        ({"g1", ""}, [pod("g1")], "pending", "an address that is no Pod's"),
        (set(), [pod("g1", ready=False)], "pending", "green has no ready Pod"),
        ({"b1"}, [pod("b1", side=BLUE)], "pending", "still leads to 1 others"),
    ],
)
def test_a_service_is_switched_when_it_leads_to_all_ready_pods_of_the_side_and_to_no_other(
    leads_to: set[str], pods: list[dict[str, Any]], state: str, found: str
) -> None:
    endpoints = frozenset(Endpoint(name, f"10.0.0.{number}") for number, name in enumerate(leads_to))
    judged = judge_endpoints("api-server", GREEN, endpoints, pods)
    assert judged.state == state
    assert found in judged.found


def test_an_endpoint_that_says_nothing_of_ready_is_ready_and_one_in_two_slices_counts_once() -> None:
    target = {"kind": "Pod", "name": "g1"}
    one = {
        "endpoints": [
            {"addresses": ["10.0.0.1"], "targetRef": target},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
        ]
    }
    assert slice_endpoints([one, one, {"endpoints": None}]) == {Endpoint("g1", "10.0.0.1")}
    listed = {
        "subsets": [{"addresses": [{"ip": "10.0.0.1", "targetRef": target}], "notReadyAddresses": [{"ip": "10.0.0.2"}]}]
    }
    assert listed_endpoints(listed) == {Endpoint("g1", "10.0.0.1")}


@pytest.mark.parametrize(
    ("settings", "shares"),
    [
        ({"kind": "httproute"}, (10, 25, 50, 100)),
        ({"kind": "httproute", "steps": (5, 100)}, (5, 100)),
        ({"kind": "service"}, (100,)),
        ({"kind": "alb", "action": "api-server"}, (10, 25, 50, 100)),
    ],
)
def test_the_steps_have_a_default_for_each_kind(settings: dict[str, Any], shares: tuple[int, ...]) -> None:
    assert Traffic(name="api-server", **settings).shares == shares


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"kind": "service"}, "needs release.traffic.name"),
        ({"kind": "alb", "name": "web"}, "release.traffic.action goes with"),
        ({"kind": "service", "name": "web", "action": "web"}, "release.traffic.action goes with"),
        ({"kind": "service", "name": "web", "steps": (50, 100)}, "knows only 100"),
        ({"kind": "httproute", "name": "web", "steps": (50,)}, "end with 100"),
        ({"kind": "httproute", "name": "web", "steps": (50, 50, 100)}, "must rise"),
        ({"kind": "httproute", "name": "web", "steps": (0, 100)}, "greater than or equal to 1"),
        ({"kind": "httproute", "name": "Web"}, "should match pattern"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_before_anything_is_touched(
    settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValidationError, match=told):
        Traffic(**settings)
