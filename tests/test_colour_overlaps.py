"""Selectors that were there before and would meet the new Pods, or miss them; and the checklist made of it."""

from typing import Any

import pytest

from core.checks import Check
from core.colour_checks import side_checks, tracking_check
from core.colour_overlaps import left_behind, not_admitting, overlaps, shared_resources
from core.colour_pair import following_labels
from core.colour_surroundings import following_budgets, following_policies
from tests.fix_colours import ADOPTION, TO_GREEN, budget, live_autoscaler, live_deployment, live_service, named, policy

Document = dict[str, Any]
OLD = {"app": "api", "tier": "front"}
NEW = following_labels(ADOPTION, live_deployment(), {"app": "api"})
BOTH = {"matchLabels": {"tier": "front"}}


def service(name: str, selector: dict[str, str] | None, **spec: Any) -> Document:
    return named("v1", "Service", name) | {"spec": {"selector": selector, **spec}}


def test_selectors_of_the_live_pods_do_not_match_the_new_ones() -> None:
    own = {"matchLabels": {"app": "api"}}
    found = overlaps(
        ADOPTION,
        OLD,
        NEW,
        services=[live_service(), service("outside", None), service("name", {}, type="ExternalName")],
        budgets=[budget()],
        policies=[policy("api-in", own)],
        deployments=[live_deployment()],
        autoscalers=[live_autoscaler()],
    )
    assert found == ()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("Service", {"services": [service("x", {"tier": "front"})]}),
        ("Service", {"services": [service("x", {})]}),
        ("PodDisruptionBudget", {"budgets": [budget(**BOTH)]}),
        ("PodDisruptionBudget", {"budgets": [budget(matchLabels={})]}),
        ("PodDisruptionBudget", {"budgets": [budget(matchExpressions=[{"key": "app", "operator": "NotIn", "values": ["cache"]}])]}),
        ("NetworkPolicy", {"policies": [policy("x", {"matchLabels": {"app": "api-blue"}})]}),
        ("Deployment", {"deployments": [named("apps/v1", "Deployment", "x") | {"spec": {"selector": BOTH}}]}),
        ("HorizontalPodAutoscaler", {"autoscalers": [named("autoscaling/v2", "HorizontalPodAutoscaler", "x") | {"spec": {"scaleTargetRef": {"name": "api-blue"}}}]}),
    ],
)  # fmt: skip
def test_a_selector_that_would_match_the_new_pods_is_refused_by_name(
    kind: str, given: dict[str, list[Document]]
) -> None:
    [found] = overlaps(ADOPTION, OLD, NEW, **given)
    assert (found.kind, found.refused) == (kind, True)


def test_a_policy_for_live_and_new_pods_alike_is_told_and_not_refused() -> None:
    found = overlaps(ADOPTION, OLD, NEW, policies=[policy("default-deny", {}), policy("front", BOTH)])
    assert [(one.name, one.refused) for one in found] == [("default-deny", False), ("front", False)]


def test_an_empty_budget_of_the_old_version_protects_no_pod() -> None:
    old = budget(matchLabels={}) | {"apiVersion": "policy/v1beta1"}
    assert overlaps(ADOPTION, OLD, NEW, budgets=[old]) == ()


def test_what_belongs_to_the_following_side_is_no_overlap() -> None:
    own = service("api-blue", {"app": "api-blue"})
    own["metadata"]["labels"] = ADOPTION.marks()
    assert overlaps(ADOPTION, OLD, NEW, services=[own]) == ()


WIDE = {"nightshift.dev/workload": "api"}


@pytest.mark.parametrize(
    ("argument", "document"),
    [
        ("services", service("wide", WIDE)),
        ("budgets", budget(matchLabels=WIDE)),
        ("budgets", budget(matchLabels=WIDE) | {"metadata": {"name": "wide-blue"}}),
        ("policies", policy("wide", {"matchLabels": {"app": "api-blue"}})),
        ("autoscalers", named("autoscaling/v2", "HorizontalPodAutoscaler", "wide") | {"spec": {"scaleTargetRef": {"name": "api-blue"}}}),
        ("deployments", named("apps/v1", "Deployment", "wide") | {"spec": {"selector": {"matchLabels": WIDE}}}),
    ],
)  # fmt: skip
def test_an_object_that_was_given_the_labels_of_the_following_side_is_not_taken_for_one_of_it(
    argument: str, document: Document
) -> None:
    labelled = {**document, "metadata": {**document["metadata"], "labels": ADOPTION.marks()}}
    [found] = overlaps(ADOPTION, OLD, NEW, **{argument: [labelled]})
    assert found.refused


def test_copies_made_for_the_following_side_are_no_overlaps() -> None:
    budgets = following_budgets(ADOPTION, [budget()], OLD, NEW)
    policies = following_policies(ADOPTION, [policy("api-in", {"matchLabels": {"app": "api"}})], OLD, NEW)
    assert len(budgets) == len(policies) == 1
    assert overlaps(ADOPTION, OLD, NEW, budgets=budgets, policies=policies) == ()


def test_a_service_with_our_labels_under_another_name_is_told_as_one_of_the_live_pods() -> None:
    exposed, own = service("wide", {"app": "api-blue"}), service("api-blue", {"app": "api-blue"})
    for one in (exposed, own):
        one["metadata"]["labels"] = ADOPTION.marks()
    assert left_behind(TO_GREEN, NEW, [exposed, own], ["api"]) == ("wide",)


def test_other_services_of_the_live_pods_are_named() -> None:
    services = [live_service(), service("api-metrics", {"app": "api"}), service("cache", {"app": "cache"})]
    assert left_behind(ADOPTION, OLD, services, ["api"]) == ("api-metrics",)


def test_policies_of_others_that_let_only_the_live_pods_through_are_named() -> None:
    cache, live, both = (
        {"matchLabels": {"app": "cache"}},
        {"podSelector": {"matchLabels": {"app": "api"}}},
        {"podSelector": BOTH},
    )
    policies = [
        policy("cache-in", cache, ingress=[{"from": [live]}]),
        policy("gateway-out", cache, egress=[{"to": [{"podSelector": {}, "ipBlock": None}]}, {"to": [live]}]),
        policy("front-in", cache, ingress=[{"from": [both]}]),
        policy("both-in", cache, ingress=[{"from": [live, both]}]),
        policy("own", live["podSelector"], ingress=[{"from": [live]}]),
        policy("all", {}, ingress=[{"from": [live]}]),
    ]
    assert not_admitting(ADOPTION, policies, OLD, NEW) == ("all", "cache-in", "gateway-out")


def test_volumes_and_node_ports_that_both_sides_would_have_are_named() -> None:
    live = live_deployment(volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "data"}}])
    live["spec"]["template"]["spec"]["containers"][0]["ports"] = [
        {"containerPort": 1, "hostPort": 9000},
        {"containerPort": 2},
    ]
    assert shared_resources(live["spec"]["template"]) == ("volume claim data", "port 9000 of the node")


def checks(**given: Any) -> dict[str, Check]:
    around: dict[str, Any] = {
        "services": [live_service()],
        "budgets": [],
        "policies": [],
        "deployments": [],
        "autoscalers": [],
    }
    made = side_checks(ADOPTION, live_deployment(), NEW, **{**around, "shifted": ["api"], "adopt": True, **given})
    return {one.name: one for one in made}


def test_a_clean_adoption_passes_and_names_whom_it_displaces() -> None:
    image = {"f:spec": {"f:template": {"f:spec": {"f:containers": {'k:{"name":"api"}': {"f:image": {}}}}}}}
    live = live_deployment()
    live["metadata"]["managedFields"] = [{"manager": "kubectl-set", "operation": "Update", "fieldsV1": image}]
    made = side_checks(
        ADOPTION, live, NEW, services=[live_service()], budgets=[], policies=[], deployments=[], autoscalers=[], shifted=["api"], adopt=True
    )  # fmt: skip
    assert {one.state for one in made} == {"passed"}
    assert "kubectl-set (image of api)" in made[0].found


def test_without_adopt_a_plain_deployment_is_left_alone() -> None:
    assert checks(adopt=False)["adoption"].state == "failed"


def test_each_trouble_is_an_item_of_its_own() -> None:
    others = [live_service(), service("wide", {"tier": "front"})]
    live = {"podSelector": {"matchLabels": {"app": "api"}}}
    rule = policy("cache-in", {"matchLabels": {"app": "cache"}}, ingress=[{"from": [live]}])
    made = checks(services=others, policies=[rule])
    failed = {name for name, one in made.items() if one.state == "failed"}
    assert failed == {"selectors", "other services", "network policies"}
    assert "Service wide" in made["selectors"].found


def test_everything_that_a_tool_tracks_is_named_at_once() -> None:
    helm = named("v1", "Service", "api")
    helm["metadata"]["labels"] = {"app.kubernetes.io/managed-by": "Helm"}
    documents = [("service/api", helm), ("deployment/api", live_deployment())]
    refused = tracking_check(documents, ())
    assert refused.state == "failed"
    assert "service/api" in refused.found and "deployment/api" in refused.found
    assert tracking_check(documents, ["helm"]).state == "passed"


def test_advice_on_an_autoscaler_is_not_that_on_selectors() -> None:
    scaler = live_autoscaler()
    scaler["spec"]["scaleTargetRef"]["name"] = "api-blue"
    alone = checks(autoscalers=[scaler])["selectors"].next_step
    assert alone == "Delete HorizontalPodAutoscaler api-scaler, or let it scale another Deployment"
    both = checks(autoscalers=[scaler], services=[live_service(), service("wide", {"tier": "front"})])
    assert (
        both["selectors"].next_step
        == f"Let them select by a label that the Deployment or its Service selects by too. {alone}"
    )
