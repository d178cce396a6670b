"""Two sides of a workload: who follows whom, and what the following side is made of."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.colour_change import following_change
from core.colour_pair import (
    COLOUR,
    WORKLOAD,
    following_deployment,
    following_labels,
    live_of,
    pair_of,
    pod_labels,
    selector_of,
    side_selected_by,
)
from core.colour_surroundings import following_autoscaler, following_budgets, following_policies, following_service
from core.errors import PermanentError
from core.label_selectors import selects
from core.merge_patch import apply_merge_patch
from core.replica_sizes import ORIGINAL, PINNED, pin_change
from tests.fix_colours import (
    ADOPTION,
    TO_GREEN,
    as_blue,
    budget,
    live_autoscaler,
    live_deployment,
    live_service,
    policy,
)

Document = dict[str, Any]

IMAGE = "registry.example.com/team/api@sha256:" + "a" * 64
OLD = {"app": "api", "tier": "front"}
NEW = {
    "app": "api-blue",
    "tier": "front",
    "nightshift.dev/environment": "production",
    WORKLOAD: "api",
    COLOUR: "blue",
}


def blue(**images: str) -> Document:
    return following_deployment(ADOPTION, live_deployment(), {"app": "api"}, images or {"api": IMAGE})


def test_plain_is_followed_by_blue_and_then_the_colours_alternate() -> None:
    names = ["api", "api-blue", "api-green"]
    assert [pair_of("production", "api", name).following_name for name in names] == [
        "api-blue",
        "api-green",
        "api-blue",
    ]
    assert [pair_of("production", "api", name).is_adoption for name in names] == [True, False, False]
    with pytest.raises(PermanentError, match="traffic goes to other"):
        pair_of("production", "api", "other")


def test_the_live_side_is_the_one_that_has_all_of_the_traffic() -> None:
    assert live_of("api", {"api": 0, "api-blue": 100, "api-green": 0}) == "api-blue"
    with pytest.raises(PermanentError, match="split between api-blue and api-green"):
        live_of("api", {"api-blue": 75, "api-green": 25})
    with pytest.raises(PermanentError, match="no side gets traffic"):
        live_of("api", {"api-blue": 0})


def test_a_service_tells_the_live_side_by_its_selector() -> None:
    sides = [live_deployment(), blue()]
    assert side_selected_by("api", {"app": "api"}, sides) == "api"
    assert side_selected_by("api", blue()["spec"]["selector"]["matchLabels"], sides) == "api-blue"
    for selector, told in (({"tier": "front"}, "api and api-blue"), ({"app": "other"}, "no side"), ({}, "no side")):
        with pytest.raises(PermanentError, match=told):
            side_selected_by("api", selector, sides)


def test_a_services_selector_is_turned_to_a_side_and_back() -> None:
    turned = selector_of(blue(), {"app": "api"})
    assert turned == {"app": "api-blue", WORKLOAD: "api", COLOUR: "blue"}
    assert selector_of(live_deployment(), turned) == {"app": "api"}
    with pytest.raises(PermanentError, match="have no label zone"):
        selector_of(blue(), {"zone": "a"})


def test_the_derived_deployment_has_the_images_no_pods_yet_and_nothing_of_the_live_ones_past() -> None:
    made = blue()
    assert made["metadata"] == {
        "name": "api-blue",
        "namespace": "shop",
        "labels": {
            "app": "api",
            "nightshift.dev/environment": "production",
            WORKLOAD: "api",
            COLOUR: "blue",
        },
        "annotations": {"team": "shop"},
    }
    assert made.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert made["spec"].keys() == {"replicas", "selector", "strategy", "progressDeadlineSeconds", "template"}
    assert made["spec"]["replicas"] == 0
    assert made["spec"]["selector"] == {"matchLabels": {"app": "api-blue", WORKLOAD: "api", COLOUR: "blue"}}
    assert made["spec"]["template"]["metadata"] == {"labels": NEW}
    assert made["spec"]["template"]["spec"]["containers"][0]["image"] == IMAGE


def test_a_live_document_is_not_changed_by_deriving_from_it() -> None:
    live = live_deployment()
    before = copy.deepcopy(live)
    following_deployment(ADOPTION, live, {"app": "api"}, {"api": IMAGE})
    assert live == before


def test_a_container_that_is_not_there_is_told() -> None:
    with pytest.raises(PermanentError, match="no container web"):
        blue(web=IMAGE)


def test_rules_of_where_pods_run_that_mean_the_live_pods_mean_the_new_ones() -> None:
    pod = blue()["spec"]["template"]["spec"]
    own = {"matchLabels": {"app": "api-blue"}}
    assert pod["topologySpreadConstraints"][0]["labelSelector"] == own
    preferred = pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]
    assert preferred["podAffinityTerm"]["labelSelector"] == own


def test_green_comes_from_blue_as_blue_came_from_the_plain_one() -> None:
    live = as_blue(blue())
    green = following_deployment(TO_GREEN, live, selector_of(blue(), {"app": "api"}), {"api": IMAGE})
    assert green["metadata"]["name"] == "api-green"
    assert str(green) == str(blue()).replace("blue", "green")


def test_a_label_that_only_the_service_selects_by_differs_too() -> None:
    assert following_labels(ADOPTION, live_deployment(), {"tier": "front"})["tier"] == "front-blue"


def test_a_label_that_gets_too_long_is_told() -> None:
    live = live_deployment()
    live["spec"]["selector"] = {"matchLabels": {"app": "x" * 60}}
    live["spec"]["template"]["metadata"]["labels"] = {"app": "x" * 60}
    with pytest.raises(PermanentError, match="label app is too long"):
        following_labels(ADOPTION, live, {})


_LABELS = st.dictionaries(
    st.sampled_from(["app", "tier", "part", "zone"]), st.sampled_from(["api", "api-blue", "front", "b"]), min_size=1
)


@given(labels=_LABELS, data=st.data())
def test_no_selector_of_the_workload_matches_the_pods_that_follow_whatever_the_labels(
    labels: dict[str, str], data: st.DataObject
) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(labels)), min_size=1, unique=True))
    by = data.draw(st.lists(st.sampled_from(sorted(labels)), min_size=1, unique=True))
    live, service = live_deployment(), {key: labels[key] for key in by}
    live["spec"]["selector"] = {"matchLabels": {key: labels[key] for key in keys}}
    live["spec"]["template"]["metadata"]["labels"] = labels
    seen = [live]
    for name in ("api", "api-blue", "api-green", "api-blue"):
        pair = pair_of("production", "api", name)
        made = following_deployment(pair, seen[-1], selector_of(seen[-1], service), {})
        new = pod_labels(made)
        assert selects(made["spec"]["selector"], new)
        assert not selector_of(seen[-1], service).items() <= new.items()
        assert not selects(seen[-1]["spec"]["selector"], new)
        seen.append(made)
    for made in seen[1:]:
        assert not any(
            selects(one["spec"]["selector"], pod_labels(made))
            for one in seen
            if one["metadata"]["name"] != made["metadata"]["name"]
        )
    # A colour of two releases ago is the same again: its selector, which nobody can change, still fits.
    assert [one["spec"] for one in seen[3:]] == [one["spec"] for one in seen[1:3]]


# Bringing an old colour up to date


def there(document: Document, **spec: Any) -> Document:
    """A derived object as it is read later."""
    made = copy.deepcopy(document)
    made["metadata"] |= {"resourceVersion": "5", "uid": "9"}
    made["spec"] |= spec
    return made


def test_what_is_as_derived_needs_no_change_whatever_its_size() -> None:
    assert (
        following_change(
            there(blue(), replicas=12, revisionHistoryLimit=10) | {"status": {}},
            {**blue(), "spec": {**blue()["spec"], "revisionHistoryLimit": 10}},
        )
        is None
    )


def test_an_old_colour_becomes_the_new_version_and_what_is_gone_vanishes() -> None:
    old = there(blue(), replicas=4, paused=True, minReadySeconds=5)
    old["spec"]["template"]["spec"] |= {"hostNetwork": True, "serviceAccountName": "old"}
    old["spec"]["template"]["spec"]["containers"][0]["env"].append({"name": "GONE", "value": "1"})
    old["spec"]["template"]["metadata"]["annotations"] = {"old": "1"}
    change = following_change(old, blue())
    assert change is not None
    assert "replicas" not in change["spec"] and "selector" not in change["spec"]
    changed = apply_merge_patch(change, old)
    assert changed["spec"] == {**blue()["spec"], "replicas": 4}
    assert following_change(changed, blue()) is None


def test_a_selector_that_differs_and_an_object_of_others_are_told() -> None:
    other = there(blue(), selector={"matchLabels": {"app": "else"}})
    with pytest.raises(PermanentError, match="a selector cannot be changed"):
        following_change(other, blue())
    for mark in (WORKLOAD, "nightshift.dev/environment", COLOUR):
        foreign = there(blue())
        del foreign["metadata"]["labels"][mark]
        with pytest.raises(PermanentError, match="somebody else made it"):
            following_change(foreign, blue())


# What stands around it


def test_the_preview_service_has_the_ports_and_neither_addresses_nor_a_way_in_from_outside() -> None:
    service = live_service()
    service["metadata"]["annotations"] = {
        "external-dns.alpha.kubernetes.io/hostname": "api.example.com",
        "alb.ingress.kubernetes.io/healthcheck-path": "/ready",
    }
    made = following_service(ADOPTION, service, blue())
    assert made["spec"] == {
        "type": "ClusterIP",
        "selector": {"app": "api-blue", WORKLOAD: "api", COLOUR: "blue"},
        "ports": [{"name": "http", "port": 80, "targetPort": 3000, "protocol": "TCP"}],
    }
    assert made["metadata"]["annotations"] == {"alb.ingress.kubernetes.io/healthcheck-path": "/ready"}


def test_a_service_with_node_ports_or_without_an_address_stays_one() -> None:
    assert following_service(ADOPTION, live_service(type="NodePort"), blue())["spec"]["type"] == "NodePort"
    headless = following_service(ADOPTION, live_service(clusterIP="None", type="ClusterIP"), blue())
    assert headless["spec"]["clusterIP"] == "None"
    numbered = there(following_service(ADOPTION, live_service(type="NodePort"), blue()), clusterIP="10.0.0.9")
    numbered["spec"]["ports"][0]["nodePort"] = 31000
    assert following_change(numbered, following_service(ADOPTION, live_service(type="NodePort"), blue())) is None


def test_the_autoscalers_copy_is_pinned_from_birth_and_knows_what_to_go_back_to() -> None:
    live = live_autoscaler(minimum=2, maximum=20)
    made = following_autoscaler(ADOPTION, live, 8)
    assert made["metadata"]["name"] == made["spec"]["scaleTargetRef"]["name"] == "api-blue"
    assert (made["spec"]["minReplicas"], made["spec"]["maxReplicas"]) == (8, 20)
    assert made["metadata"]["annotations"] == {ORIGINAL: "2", PINNED: "8"}
    # After a crash the live one is pinned already.
    pinned = apply_merge_patch(pin_change(live, 8) or {}, live)
    assert following_autoscaler(ADOPTION, pinned, 8) == made


def test_an_autoscaler_that_is_there_keeps_its_pin_and_gets_all_else() -> None:
    pinned = there(following_autoscaler(ADOPTION, live_autoscaler(), 30))
    wanted = following_autoscaler(ADOPTION, live_autoscaler(minimum=4, maximum=40), 8)
    assert following_change(pinned, wanted) == {
        "metadata": {"annotations": {ORIGINAL: "4"}},
        "spec": {"maxReplicas": 40},
    }
    unpinned = there(following_autoscaler(ADOPTION, live_autoscaler(), 3), minReplicas=2)
    unpinned["metadata"]["annotations"] = {}
    assert (following_change(unpinned, wanted) or {})["spec"]["minReplicas"] == 8


def test_budgets_of_the_live_pods_are_copied_and_one_of_all_pods_is_not() -> None:
    other = budget(matchLabels={"app": "cache"})
    made = following_budgets(
        ADOPTION, [budget(), other, budget(matchExpressions=[{"key": "tier", "operator": "Exists"}])], OLD, NEW
    )
    assert [one["metadata"]["name"] for one in made] == ["api-budget-blue"]
    assert selects(made[0]["spec"]["selector"], NEW) and not selects(made[0]["spec"]["selector"], OLD)


def test_policies_of_the_live_pods_are_copied_with_their_own_peers_and_green_replaces_blue() -> None:
    own = {"matchLabels": {"app": "api"}}
    rules = {"ingress": [{"from": [{"podSelector": own}, {"podSelector": {"matchLabels": {"app": "web"}}}]}, {}]}
    made = following_policies(ADOPTION, [policy("default-deny", {}), policy("api-in", own, **rules)], OLD, NEW)
    assert [one["metadata"]["name"] for one in made] == ["api-in-blue"]
    assert made[0]["spec"]["ingress"] == [
        {
            "from": [
                {"podSelector": {"matchLabels": {"app": "api-blue"}}},
                {"podSelector": {"matchLabels": {"app": "web"}}},
            ]
        },
        {},
    ]
    green = {key: value.replace("blue", "green") for key, value in NEW.items()}
    again = following_policies(TO_GREEN, made, NEW, green)
    assert str(again) == str(made).replace("blue", "green")


def test_a_rule_that_a_policy_has_no_more_vanishes_from_its_copy() -> None:
    own = {"matchLabels": {"app": "api"}}
    [before] = following_policies(ADOPTION, [policy("api-in", own, ingress=[{}], egress=[{}])], OLD, NEW)
    [after] = following_policies(ADOPTION, [policy("api-in", own, ingress=[{}])], OLD, NEW)
    assert following_change(there(before), after) == {"spec": {"egress": None}}
