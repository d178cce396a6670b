"""Blue-green releases as a whole: traffic goes to the new version share by share, and back to the old one as soon as anything is not well."""

import functools
from datetime import timedelta
from typing import Any

import pytest

from tasks.recording import utc_now
from tests.fix_alb import Alb
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage
from tests.fix_release_shift import Route, add_autoscaler, blue_green, least, ready, scale, scaled, steer

pytestmark = pytest.mark.services


def test_by_a_services_selector_a_release_adopts_then_the_colours_alternate_and_each_can_be_taken_back(
    stage: Stage,
) -> None:
    blue_green(stage)
    assert stage.release("v2", adopt=True).is_completed()
    assert stage.selector()["nightshift.dev/colour"] == "blue"
    green = stage.release("v3", COMMIT)
    assert green.is_completed(), green.message
    assert stage.selector()["nightshift.dev/colour"] == "green"
    back = stage.run_rollback("a mistake")
    assert back.is_completed(), back.message
    assert stage.selector()["nightshift.dev/colour"] == "blue"
    assert (ready(stage, "hello-blue"), stage.deployment("hello-green")["spec"]["replicas"]) == (2, 0)
    assert stage.image_of("worker") == stage.image("v2")
    again = stage.run_rollback("once more")
    assert again.is_failed()
    assert "was taken back already" in str(again.message)


def test_by_a_routes_weights_a_release_goes_step_by_step_and_the_colours_alternate(stage: Stage, route: Route) -> None:
    refused = stage.release("v2")
    assert refused.is_failed()
    assert "adopt = true" in str(refused.message)
    assert route.written == []
    adopted = stage.release("v2", adopt=True)
    assert adopted.is_completed(), adopted.message
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100]
    assert stage.image_of("hello-blue") == stage.image("v2")
    green = stage.release("v3", COMMIT)
    assert green.is_completed(), green.message
    assert route.shares("hello-green")[5:] == [10, 25, 50, 100]
    back = stage.run_rollback("a mistake")
    assert back.is_completed(), back.message
    assert {name for name, weight in route.weights().items() if weight} == {"hello-blue"}
    assert stage.image_of("worker") == stage.image("v2")
    assert stage.lease_holder() == ""


def test_by_an_albs_weights_a_release_goes_step_by_step_and_the_colours_alternate(stage: Stage, stage_alb: Alb) -> None:
    adopted = stage.release("v2", adopt=True)
    assert adopted.is_completed(), adopted.message
    assert stage_alb.weights() == {"hello": 0, "hello-blue": 100}
    green = stage.release("v3", COMMIT)
    assert green.is_completed(), green.message
    assert stage_alb.weights() == {"hello": 0, "hello-blue": 0, "hello-green": 100}
    back = stage.run_rollback("a mistake")
    assert back.is_completed(), back.message
    assert stage_alb.weights() == {"hello": 0, "hello-blue": 100, "hello-green": 0}


def test_when_the_live_side_grows_during_the_shift_the_new_one_follows_before_it_gets_more(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    stage.settings["release"]["keep_full_minutes"] = 0
    scaled(stage, kubernetes, "hello", 3)
    add_autoscaler(stage, least=3, most=40)
    seen: dict[int, tuple[int, int, int]] = {}

    def note(share: int) -> None:
        seen[share] = (ready(stage, "hello-blue"), least(stage, "hello"), least(stage, "hello-blue"))

    for share in (10, 25, 50, 100):
        route.when("hello-blue", share, functools.partial(note, share))
    route.when("hello-blue", 10, lambda: scale(stage, kubernetes, "hello", 30))
    state = stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert seen == {10: (3, 3, 3), 25: (30, 30, 30), 50: (30, 30, 30), 100: (30, 30, 30)}
    assert (least(stage, "hello"), least(stage, "hello-blue")) == (30, 30)
    swept = stage.recover()
    assert "have their own minReplicas again" in str(swept.message)
    assert (least(stage, "hello"), least(stage, "hello-blue")) == (3, 3)
    assert stage.recover().message == "no release is open"


def test_the_old_side_is_kept_full_for_as_long_as_the_environment_says(
    stage: Stage, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.settings["release"]["keep_full_minutes"] = 30
    add_autoscaler(stage, least=1, most=9)
    assert stage.release("v2", adopt=True).is_completed()
    for minutes, told, kept in ((28, "no release is open", 2), (30, "have their own minReplicas again", 1)):
        later = timedelta(minutes=minutes)
        monkeypatch.setattr("tasks.release_upkeep.utc_now", lambda later=later: utc_now() + later)
        assert told in str(stage.recover().message)
        assert (least(stage, "hello"), least(stage, "hello-blue")) == (kept, kept)
    # The old side has its Pods until the next release: its autoscaler says how many.
    assert (ready(stage, "hello"), stage.lease_holder()) == (2, "")


def test_a_rollback_makes_the_old_side_large_enough_before_it_gets_traffic(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    assert stage.release("v2", adopt=True).is_completed()
    scaled(stage, kubernetes, "hello", 1)
    scaled(stage, kubernetes, "hello-blue", 5)
    seen: list[int] = []
    route.when("hello", 100, lambda: seen.append(ready(stage, "hello")))
    back = stage.run_rollback("slow")
    assert back.is_completed(), back.message
    assert seen == [5]
    assert route.weights() == {"hello": 100, "hello-blue": 0}
    assert stage.deployment("hello-blue")["spec"]["replicas"] == 0


def test_a_new_version_that_somebody_scaled_to_nothing_does_not_keep_the_traffic(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    assert stage.release("v2", adopt=True).is_completed()
    scaled(stage, kubernetes, "hello-blue", 0)
    back = stage.run_rollback("it is bad")
    assert back.is_completed(), back.message
    assert route.weights() == {"hello": 100, "hello-blue": 0}
    told = [one.text for step in stage.reports()[-1].steps for one in step.findings]
    assert "hello-blue has no Pods: hello takes all with the 2 that it has" in told


@pytest.mark.parametrize("told", [True, False], ids=["the quota tells its use", "Pods are refused"])
def test_traffic_goes_back_no_faster_than_the_old_side_has_room_for_pods(  # noqa: PLR0917 - fixtures
    stage: Stage,
    route: Route,
    kubernetes: KubernetesApi,
    quick_retries: None,
    monkeypatch: pytest.MonkeyPatch,
    told: bool,
) -> None:
    monkeypatch.setattr("core.rollout_status.CREATION_GRACE", 2.0)
    scaled(stage, kubernetes, "hello", 4)
    assert stage.release("v2", adopt=True).is_completed()
    scaled(stage, kubernetes, "hello", 0)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}, "spec": {"hard": {"pods": "8"}}}
    quotas = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    stage.client.create(quotas, quota)
    place = ("v1", "resourcequotas", stage.namespace, "pods")
    if told:
        kubernetes.set_status(*place, hard={"pods": "8"}, used={"pods": "6"})
    had: list[int] = []

    def make_room() -> None:
        had.append(ready(stage, "hello"))
        kubernetes.merge(*place, {"spec": {"hard": {"pods": "20"}}})

    route.when("hello", 50, make_room)
    back = stage.run_rollback("slow")
    assert back.is_completed(), back.message
    assert had == [2]
    assert route.shares("hello-blue")[-3:] == [100, 50, 0]
    assert ready(stage, "hello") == 4


def test_weights_that_somebody_else_changes_stop_the_release_and_it_goes_back(stage: Stage, route: Route) -> None:
    route.when("hello-blue", 25, lambda: route.write(hello=60, hello_blue=40))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "it is hello 60 %, hello-blue 40 %" in str(state.message)
    assert route.shares("hello-blue") == [0, 10, 25, 0]
    assert route.weights() == {"hello": 100, "hello-blue": 0}


def test_an_image_that_somebody_sets_on_the_new_side_gets_no_more_traffic(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    route.when("hello-blue", 10, lambda: set_image(kubernetes, stage, "hello-blue", "v9"))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "somebody else changed" in str(state.message)
    assert stage.image("v9") in str(state.message)
    assert route.shares("hello-blue") == [0, 10, 0]


def set_image(api: KubernetesApi, stage: Stage, name: str, version: str) -> None:
    """As `kubectl set image` by somebody."""
    (container,) = stage.deployment(name)["spec"]["template"]["spec"]["containers"]
    containers = [{**container, "image": stage.image(version)}]
    patch = {"spec": {"template": {"spec": {"containers": containers}}}}
    api.merge("apps/v1", "deployments", stage.namespace, name, patch, manager="kubectl-set")


def test_a_least_number_that_somebody_sets_during_the_shift_is_what_stays(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    stage.settings["release"]["keep_full_minutes"] = 0
    add_autoscaler(stage, least=1, most=9)
    autoscaler = ("autoscaling/v2", "horizontalpodautoscalers", stage.namespace, "hello")
    theirs: dict[str, Any] = {"spec": {"minReplicas": 4}}
    route.when("hello-blue", 10, lambda: kubernetes.merge(*autoscaler, theirs, manager="somebody"))
    assert stage.release("v2", adopt=True).is_completed()
    assert "have their own minReplicas again" in str(stage.recover().message)
    assert (least(stage, "hello"), least(stage, "hello-blue")) == (4, 1)


def test_a_gateway_that_says_nothing_stops_the_release_and_it_goes_back_in_time(
    stage: Stage, route: Route, kubernetes: KubernetesApi, quick_balancer: None
) -> None:
    route.when("hello-blue", 10, lambda: steer(kubernetes).answer_routes(accepts=None))
    route.when("hello-blue", 0, lambda: steer(kubernetes).answer_routes(accepts=True))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "gateway web speaks of generation 1, and the route is at 2" in str(state.message), state.message
    assert route.shares("hello-blue") == [0, 10, 0]


def test_a_gateway_that_stays_silent_leaves_the_release_open_until_it_is_seen_to_be_back(
    stage: Stage, route: Route, kubernetes: KubernetesApi, quick_balancer: None
) -> None:
    route.when("hello-blue", 10, lambda: steer(kubernetes).answer_routes(accepts=None))
    state = stage.release("v2", adopt=True)
    assert (state.name, state.is_failed()) == ("Failed", True), state.message
    assert "not within 60 s" in str(state.message)
    assert route.weights() == {"hello": 100, "hello-blue": 0}
    assert [one.is_open for one in stage.journals()] == [True]
    steer(kubernetes).answer_routes(accepts=True)
    swept = stage.recover()
    assert swept.is_completed(), swept.message
    assert stage.journals()[-1].outcome == "rolled back"
    assert route.shares("hello-blue") == [0, 10, 0]


def test_a_route_that_its_gateway_refuses_is_not_waited_for(
    stage: Stage, route: Route, kubernetes: KubernetesApi
) -> None:
    route.when("hello-blue", 10, lambda: steer(kubernetes).answer_routes(accepts=False))
    route.when("hello-blue", 0, lambda: steer(kubernetes).answer_routes(accepts=True))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "NoMatchingParent" in str(state.message)


def test_an_alb_whose_controller_does_nothing_stops_the_release_at_its_first_share(
    stage: Stage, stage_alb: Alb, kubernetes: KubernetesApi, quick_balancer: None
) -> None:
    stage_alb.reconcile()
    stage_alb.idle = True
    state = stage.release("v2", adopt=True)
    assert state.is_failed(), state.message
    assert "the load balancer has no target group of Service hello-blue yet" in str(state.message)
    assert stage_alb.weights() == {"hello": 100}
    stage_alb.idle = False
    assert stage.journals()[-1].outcome or stage.recover().is_completed()
    assert stage.journals()[-1].outcome == "rolled back"


def test_targets_that_an_alb_finds_unhealthy_are_refused_with_their_reasons(stage: Stage, stage_alb: Alb) -> None:
    stage_alb.health = dict.fromkeys(stage_alb.addresses("hello"), ("healthy", ""))
    stage_alb.health_of_others = ("unhealthy", "Target.ResponseCodeMismatch")
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "0 of 2 targets of hello-blue are healthy; unhealthy: 2 × Target.ResponseCodeMismatch" in str(state.message)
    assert stage_alb.weights() == {"hello": 100, "hello-blue": 0}
