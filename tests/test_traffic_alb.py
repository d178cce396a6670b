"""Traffic by an ALB's weights: written to the Ingress, and told only when the balancer's own rules and targets say so."""

import copy
import json
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.environment_traffic import LoadBalancer
from core.errors import PermanentError, TemporaryError
from core.load_balancer import judge_rules, judge_targets
from core.traffic import split_between
from core.traffic_alb import ACTION as KEY
from core.traffic_alb import group_tags, ingress_patch, ingress_split
from tasks.load_balancers import LoadBalancers
from tasks.traffic import NotEffectiveError
from tasks.traffic_alb import AlbTraffic
from tests.fix_alb import ACTION, ANNOTATION, INGRESSES, Alb, forward
from tests.fix_kubernetes_objects import merged
from tests.fix_object_store import REGION
from tests.fix_sides import BLUE, GREEN, NAMESPACE

ALL_BLUE, TEN, ALL_GREEN = (split_between(BLUE, GREEN, percent) for percent in (0, 10, 100))
PERCENTS = st.integers(0, 100)


def ours() -> None:
    """Nobody took the lease away."""


def pair(blue: int, green: int) -> dict[str, Any]:
    return forward(api_server_blue=blue, api_server_green=green)


def ingress(action: dict[str, Any], *, used: bool = True) -> dict[str, Any]:
    service = {"name": ACTION, "port": {"name": "use-annotation"} if used else {"number": 80}}
    paths = [{"backend": {"service": {"name": "docs", "port": {"number": 80}}}}, {"backend": {"service": service}}]
    metadata = {"name": "web", "namespace": NAMESPACE, "annotations": {ANNOTATION: json.dumps(action), "other": "x"}}
    return {"metadata": metadata, "spec": {"rules": [{"host": "x"}, {"http": {"paths": paths}}]}}


def read(document: dict[str, Any]) -> Any:
    return ingress_split(document, ACTION, BLUE, GREEN, on="Ingress web")


def traffic(alb: Alb, **settings: Any) -> AlbTraffic:
    chosen = LoadBalancer(region=REGION, endpoint_url=alb.endpoint, **settings)
    return AlbTraffic(alb.sides.client, NAMESPACE, "web", BLUE, GREEN, action=ACTION, settings=chosen)


@given(PERCENTS, PERCENTS, st.booleans(), st.booleans())
def test_what_is_written_is_read_back_and_all_else_stays(
    before: int, after: int, green_there: bool, upper: bool
) -> None:
    action = pair(100 - before, before)
    if before == 0 and not green_there:
        action["forwardConfig"]["targetGroups"].pop()
    action["forwardConfig"]["targetGroupStickinessConfig"] = {"enabled": False}
    text = json.dumps(action)
    if upper:
        # As the controller's first version wrote it.
        for name in ("type", "forwardConfig", "targetGroups", "serviceName", "servicePort", "weight"):
            text = text.replace(f'"{name}"', f'"{name[0].upper()}{name[1:]}"')
    document = ingress({})
    document["metadata"]["annotations"][ANNOTATION] = text
    wanted = split_between(BLUE, GREEN, after)
    kept = copy.deepcopy(document)
    written = merged(copy.deepcopy(document), ingress_patch(document, ACTION, BLUE, GREEN, wanted, on="x"))
    assert document == kept
    assert read(written) == wanted
    stays = json.loads(written["metadata"]["annotations"][ANNOTATION])
    assert "'enabled': False" in str(stays)
    assert written["metadata"]["annotations"]["other"] == "x"
    if (
        len(
            json.loads(text)["ForwardConfig" if upper else "forwardConfig"]["TargetGroups" if upper else "targetGroups"]
        )
        == 2
    ):
        assert sorted(_keys(stays)) == sorted(_keys(json.loads(text)))


def _keys(document: Any) -> list[str]:
    if isinstance(document, dict):
        return [*document, *(key for value in document.values() for key in _keys(value))]
    return [key for value in document for key in _keys(value)] if isinstance(document, list) else []


def test_a_third_service_of_weight_0_is_left_as_it_is() -> None:
    document = ingress(forward(api_server=0, api_server_blue=100))
    assert read(document) == ALL_BLUE
    text = ingress_patch(document, ACTION, BLUE, GREEN, TEN, on="x")["metadata"]["annotations"][ANNOTATION]
    groups = json.loads(text)["forwardConfig"]["targetGroups"]
    assert [(one["serviceName"], one["weight"]) for one in groups] == [
        ("api-server", 0), ("api-server-blue", 90), ("api-server-green", 10),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("action", "found"),
    [
        (pair(0, 0), "add up to 0"),
        (forward(api_server_blue=50, docs=50), "action api-server forwards to docs as well"),
        (
            {"type": "forward", "forwardConfig": {"targetGroups": [{"targetGroupARN": "arn:x"}]}},
            "forwards to arn:x as well",
        ),
        ({"type": "forward", "targetGroupARN": "arn:x"}, "does not forward to target groups"),
        ({"type": "redirect", "redirectConfig": {"statusCode": "HTTP_301"}}, "does not forward to target groups"),
        (forward(api_server_blue=1, **{"api-server-blue": 1}), "names api-server-blue twice"),
    ],
)
def test_an_action_whose_split_is_not_one_is_refused_by_name(action: dict[str, Any], found: str) -> None:
    with pytest.raises(PermanentError) as raised:
        read(ingress(action))
    assert found in str(raised.value)


def test_an_action_that_no_backend_uses_is_refused() -> None:
    with pytest.raises(PermanentError, match="so the action does nothing"):
        read(ingress(pair(100, 0), used=False))


def test_an_annotation_that_is_not_there_or_no_json_is_refused() -> None:
    document = ingress(pair(100, 0))
    for text in ("{", "[]", None):
        document["metadata"]["annotations"][ANNOTATION] = text
        with pytest.raises(PermanentError, match="no annotation"):
            read(document)


def test_stickiness_is_refused_since_a_shift_back_would_not_reach_those_clients() -> None:
    action = pair(100, 0)
    action["forwardConfig"]["targetGroupStickinessConfig"] = {"enabled": True, "durationSeconds": 3600}
    with pytest.raises(PermanentError, match="clients stay with their side, whatever the weights"):
        read(ingress(action))


def test_target_groups_are_found_by_the_tag_that_the_controller_gives_them() -> None:
    action = pair(100, 0)
    action["forwardConfig"]["targetGroups"][1]["servicePort"] = "http"
    assert group_tags(ingress(action), ACTION, BLUE, GREEN, on="x") == {
        "api-server-blue": "staging/web-api-server-blue:80",
        "api-server-green": "staging/web-api-server-green:http",
    }
    assert KEY + ACTION == ANNOTATION


def rule(blue: int, green: int, **more: Any) -> dict[str, Any]:
    groups = [{"TargetGroupArn": "b", "Weight": blue}, {"TargetGroupArn": "g", "Weight": green}]
    return {
        "Priority": "1",
        "RuleArn": "arn/x",
        "Actions": [{"Type": "forward", "ForwardConfig": {"TargetGroups": groups, **more}}],
    }


GROUPS = {BLUE.service: "b", GREEN.service: "g"}
FIXED = {"Priority": "default", "RuleArn": "arn/y", "Actions": [{"Type": "fixed-response"}]}
FOREIGN = {"Priority": "2", "RuleArn": "arn/z", "Actions": [{"Type": "forward", "TargetGroupArn": "docs"}]}


@pytest.mark.parametrize(
    ("rules", "groups", "state", "found"),
    [
        (
            [FIXED, rule(90, 10), FOREIGN],
            GROUPS,
            "effective",
            "1 rule with api-server-blue 90 %, api-server-green 10 %",
        ),
        ([rule(9, 1)], GROUPS, "effective", "1 rule with"),
        (
            [rule(90, 10), rule(100, 0)],
            GROUPS,
            "pending",
            "has the weights api-server-blue 100, api-server-green 0, wanted is",
        ),
        ([rule(0, 0)], GROUPS, "pending", "api-server-blue 0, api-server-green 0"),
        ([FIXED], GROUPS, "pending", "no rule of the load balancer forwards to the two sides yet"),
        ([rule(90, 10)], {BLUE.service: "b"}, "pending", "no target group of Service api-server-green yet"),
        ([rule(90, 10, TargetGroupStickinessConfig={"Enabled": True})], GROUPS, "refused", "stickiness"),
    ],
)
def test_every_rule_that_forwards_to_a_side_must_have_the_weights(
    rules: list[dict[str, Any]], groups: dict[str, str], state: str, found: str
) -> None:
    judged = judge_rules(rules, groups, TEN)
    assert (judged.state, found in judged.found) == (state, True), judged


def target(state: str, reason: str = "", address: str = "10.0.0.1") -> dict[str, Any]:
    return {
        "Target": {"Id": address, "Port": 80},
        "TargetHealth": {"State": state, **({"Reason": reason} if reason else {})},
    }


HEALTHY, BAD = target("healthy"), target("unhealthy", "Target.Timeout")
STARTING = target("initial", "Elb.InitialHealthChecking")


@pytest.mark.parametrize(
    ("targets", "limit", "state", "found"),
    [
        ([HEALTHY, HEALTHY], 0, "effective", "2 of 2 targets of x are healthy"),
        ([HEALTHY, target("draining")], 0, "effective", "1 of 1 targets"),
        ([BAD, target("unhealthy", "Target.ResponseCodeMismatch"), BAD], 10, "refused", "0 of 3 targets of x are healthy; unhealthy: 1 × Target.ResponseCodeMismatch"),
        ([HEALTHY] * 9 + [BAD], 10, "effective", "9 of 10"),
        ([HEALTHY] * 8 + [BAD] * 2, 10, "refused", "2 × Target.Timeout"),
        ([STARTING], 50, "pending", "0 of 1 targets of x are healthy; 1 × Elb.InitialHealthChecking"),
        ([HEALTHY, STARTING], 10, "pending", "1 of 2"),
        ([target("unused", "Target.NotInUse")], 10, "pending", "Target.NotInUse"),
        ([], 10, "pending", "0 of 0 targets of x are healthy; none is registered"),
        ([target("draining")], 10, "pending", "none is registered"),
        ([HEALTHY, target("odd")], 10, "pending", "1 × odd"),
    ],
)  # fmt: skip
def test_a_side_with_traffic_needs_healthy_targets(
    targets: list[dict[str, Any]], limit: int, state: str, found: str
) -> None:
    judged = judge_targets("x", targets, (), limit)
    assert (judged.state, found in judged.found) == (state, True), judged


def test_a_ready_pod_that_is_no_target_yet_is_waited_for() -> None:
    judged = judge_targets("x", [HEALTHY], ("10.0.0.1", "10.0.0.2"), 10)
    assert (judged.state, judged.found) == ("pending", "1 ready Pods of x are not registered as targets yet (10.0.0.2)")


@given(
    st.lists(st.sampled_from(("healthy", "unhealthy", "initial", "unused", "draining", "unavailable")), max_size=12),
    st.integers(0, 50),
)
def test_a_side_without_a_healthy_target_never_counts_as_effective(states: list[str], limit: int) -> None:
    judged = judge_targets("x", [target(state) for state in states], (), limit)
    if judged.state == "effective":
        assert "healthy" in states
        others = [state for state in states if state not in {"healthy", "draining"}]
        assert 100 * len(others) <= limit * (len(others) + states.count("healthy"))


def test_weights_are_effective_once_the_balancers_rule_has_them(alb: Alb) -> None:
    alb.start()
    shift = alb.sides.stamped(traffic(alb))
    assert shift.wait_effective(ALL_BLUE, 30, ours).found.startswith(
        "1 rule with api-server-blue 100 %; 2 of 2 targets"
    )
    for before, percent in ((0, 10), (10, 50), (50, 100)):
        wanted = split_between(BLUE, GREEN, percent)
        shift.write(alb.sides.fence, split_between(BLUE, GREEN, before), wanted)
        assert shift.wait_effective(wanted, 30, ours).state == "effective"
    weights = alb.client.describe_rules(RuleArns=[alb.rules["/"]])["Rules"][0]["Actions"][0]["ForwardConfig"][
        "TargetGroups"
    ]
    assert [group["Weight"] for group in weights] == [0, 100]


def test_weights_patched_but_not_effective_at_the_balancer_end_the_wait(alb: Alb) -> None:
    alb.reconcile()
    shift = alb.sides.stamped(traffic(alb))
    alb.idle = True
    alb.start()
    shift.write(alb.sides.fence, ALL_BLUE, TEN)
    with pytest.raises(NotEffectiveError) as raised:
        shift.wait_effective(TEN, 1, ours)
    assert "not within 1 s: rule 1 " in str(raised.value)
    assert (
        "has the weights api-server-blue 100, api-server-green 0, wanted is api-server-blue 90 %, api-server-green 10 %"
        in str(raised.value)
    )
    # And the way back is written and told all the same.
    shift.write(alb.sides.fence, TEN, ALL_BLUE)
    assert shift.wait_effective(ALL_BLUE, 10, ours).state == "effective"


def test_a_controller_that_is_late_is_waited_for(alb: Alb) -> None:
    alb.reconcile()
    shift = alb.sides.stamped(traffic(alb))
    shift.write(alb.sides.fence, ALL_BLUE, TEN)
    assert shift.effective(TEN).state == "pending"
    timer = threading.Timer(1, alb.start)
    timer.start()
    assert shift.wait_effective(TEN, 30, ours).state == "effective"
    timer.join()


def test_targets_registered_but_unhealthy_refuse_with_their_reasons(alb: Alb) -> None:
    alb.start()
    alb.health = {f"10.0.2.{number}": ("unhealthy", "Target.ResponseCodeMismatch") for number in (1, 2)}
    shift = alb.sides.stamped(traffic(alb))
    # Without weight their health says nothing.
    assert shift.wait_effective(ALL_BLUE, 30, ours).state == "effective"
    shift.write(alb.sides.fence, ALL_BLUE, TEN)
    with pytest.raises(NotEffectiveError) as raised:
        shift.wait_effective(TEN, 60, ours)
    assert "0 of 2 targets of api-server-green are healthy; unhealthy: 2 × Target.ResponseCodeMismatch" in str(
        raised.value
    )


def test_targets_that_are_still_checked_are_waited_for(alb: Alb) -> None:
    alb.start()
    alb.health = {"10.0.2.1": ("initial", "Elb.InitialHealthChecking")}
    shift = alb.sides.stamped(traffic(alb))
    shift.write(alb.sides.fence, ALL_BLUE, TEN)
    timer = threading.Timer(2, alb.health.clear)
    timer.start()
    assert shift.wait_effective(TEN, 30, ours).state == "effective"
    timer.join()


def test_a_second_rule_that_stayed_behind_is_seen(alb: Alb) -> None:
    alb.reconcile()
    alb.write_rule("/v2", [{"TargetGroupArn": alb.groups[BLUE.service], "Weight": 1}])
    shift = alb.sides.stamped(traffic(alb))
    assert shift.effective(ALL_BLUE).found.startswith("2 rules with api-server-blue 100 %")
    shift.write(alb.sides.fence, ALL_BLUE, TEN)
    alb.reconcile()
    assert "rule 2 " in shift.effective(TEN).found


def test_a_load_balancer_with_more_target_groups_than_one_request_tells_the_tags_of(alb: Alb) -> None:
    others = [alb.new_group(f"other/web-other-{number}:80") for number in range(25)]
    alb.write_rule("/others", [{"TargetGroupArn": arn, "Weight": 1} for arn in others])
    alb.reconcile()
    assert traffic(alb).effective(ALL_BLUE).state == "effective"


def test_a_ready_pod_that_the_balancer_does_not_know_yet_is_pending(alb: Alb) -> None:
    alb.reconcile()
    alb.sides.pod("blue-3", BLUE, "10.0.1.3")
    alb.sides.settle()
    told = traffic(alb).effective(ALL_BLUE)
    assert (told.state, told.found) == (
        "pending",
        "1 ready Pods of api-server-blue are not registered as targets yet (10.0.1.3)",
    )


def test_the_load_balancer_may_be_named_or_is_found_by_the_ingress(alb: Alb) -> None:
    alb.reconcile()
    name = alb.arn.split("/")[-2]
    for settings in ({}, {"load_balancer": alb.arn}, {"load_balancer": name}):
        assert traffic(alb, **settings).effective(ALL_BLUE).state == "effective"
    told = traffic(alb, load_balancer="other").effective(ALL_BLUE)
    assert (told.state, told.found) == ("pending", "there is no load balancer other yet")
    alb.sides.api.set_status(*INGRESSES, "web", loadBalancer={})
    assert "there is no load balancer in the Ingress's status yet" in traffic(alb).effective(ALL_BLUE).found


def test_a_load_balancer_that_is_gone_and_an_api_that_is_away_are_told_apart(alb: Alb) -> None:
    alb.reconcile()
    with pytest.raises(PermanentError, match="LoadBalancerNotFound"):
        traffic(alb, load_balancer=alb.arn.replace("k8s", "gone")).effective(ALL_BLUE)
    away = LoadBalancers(LoadBalancer(region=REGION, endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(TemporaryError, match="find the load balancer"):
        away.find((alb.host,))
