"""Items capacity and nodes: is there room for the Pods that a release adds."""

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.capacity import Surge, node_problem, pod_amounts, quota_problems, quota_room, rolling_pods
from core.quantity import quantity, shown
from core.release_checks import ReleaseCheck
from tasks.check_capacity import check_capacity, check_nodes
from tasks.kubernetes_client import KubernetesClient
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_preflight import NAMESPACE, deployment, pod, preflight_for, release_with

Apps = tuple[KubernetesApi, KubernetesClient]
SPEC: Document = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "500m", "memory": "256Mi"}}}]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("250m", Fraction(1, 4)),
        ("1.5Gi", 3 * 2**29),
        ("64Mi", 67108864),
        ("1k", 1000),
        ("2e3", 2000),
        ("1E", 10**18),
        ("1Ei", 2**60),
        ("100n", Fraction(1, 10**7)),
        (".5", Fraction(1, 2)),
        ("1.", 1),
        ("-1k", -1000),
        ("5E-1", Fraction(1, 2)),
    ],
)
def test_a_quantity_is_read_exactly(text: str, value: int | Fraction) -> None:
    assert quantity(text) == value


@pytest.mark.parametrize("text", ["", "x", "1KI", "1 Gi", "m", "1e", "0x10", "1mm"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        quantity(text)


def test_a_quantity_is_shown_as_people_write_it() -> None:
    assert [shown(quantity(text), "cpu") for text in ("250m", "3")] == ["250m", "3"]
    assert [shown(quantity(text), "requests.memory") for text in ("256Mi", "1536Mi")] == ["256Mi", "1.50Gi"]


@pytest.mark.parametrize(
    ("strategy", "replicas", "pods"),
    [
        ({}, 4, 1),
        ({}, 5, 2),
        ({"rollingUpdate": {"maxSurge": "100%"}}, 3, 3),
        ({"rollingUpdate": {"maxSurge": 2}}, 10, 2),
        ({"rollingUpdate": {"maxSurge": 0}}, 10, 0),
        ({"type": "Recreate"}, 10, 0),
        ({}, 0, 0),
    ],
)
def test_a_rollout_adds_what_max_surge_allows(strategy: Document, replicas: int, pods: int) -> None:
    assert rolling_pods(deployment(replicas=replicas, strategy=strategy)) == pods


def test_a_pod_counts_for_its_containers_or_its_greatest_init_container() -> None:
    def one(cpu: str, **more: Any) -> Document:
        return {"name": cpu, "resources": {"requests": {"cpu": cpu}}, **more}

    always = {"restartPolicy": "Always"}
    assert pod_amounts({"containers": [one("1"), one("2")]}, "requests") == {"cpu": 3}
    assert pod_amounts({"containers": [one("1")], "initContainers": [one("2"), one("3")]}, "requests") == {"cpu": 3}
    assert pod_amounts({"containers": [one("1")], "initContainers": [one("2", **always), one("3")]}, "requests") == {
        "cpu": 5
    }
    assert pod_amounts({"containers": [one("9")], "initContainers": [one("3"), one("2", **always)]}, "requests") == {
        "cpu": 11
    }
    assert pod_amounts({"containers": [one("1")], "overhead": {"cpu": "250m"}}, "requests") == {"cpu": Fraction(5, 4)}
    limited = {"containers": [{"name": "a", "resources": {"limits": {"cpu": "2"}}}]}
    assert pod_amounts(limited, "requests") == pod_amounts(limited, "limits") == {"cpu": 2}


def quota(hard: Document, used: Document, **spec: Any) -> Document:
    return {"metadata": {"name": "team"}, "spec": {"hard": hard, **spec}, "status": {"hard": hard, "used": used}}


def test_the_narrowest_quota_tells_how_many_pods_fit() -> None:
    asked = {"requests": {"cpu": "250m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}
    template = {"spec": {"containers": [{"resources": asked}, {"resources": asked}], "initContainers": [{}]}}
    assert quota_room(template, []) is None
    assert quota_room(template, [quota({"pods": "10"}, {"pods": "7"})]) == 3
    narrow = quota({"requests.cpu": "2", "limits.cpu": "100", "services": "0"}, {"requests.cpu": "1"})
    assert quota_room(template, [quota({"pods": "10"}, {"pods": "7"}), narrow]) == 2
    # Requests that are not said are the limits.
    assert quota_room(template, [quota({"requests.memory": "256Mi"}, {})]) == 2
    assert quota_room(template, [quota({"pods": "10"}, {"pods": "12"})]) == 0
    assert quota_room(template, [quota({"pods": "1"}, {}, scopes=["BestEffort"])]) is None
    # One with a scope counts the Pods that it is for, and one that nobody can tell.
    assert quota_room(template, [quota({"pods": "1"}, {}, scopes=["NotBestEffort"])]) == 1
    sidecar = {"restartPolicy": "Always", "resources": asked}
    beside = {"spec": {**template["spec"], "initContainers": [sidecar]}}
    assert quota_room(beside, [quota({"requests.cpu": "2"}, {})]) == 2


@pytest.mark.parametrize(
    ("hard", "used", "problems"),
    [
        ({"requests.cpu": "4"}, {"requests.cpu": "3"}, 0),
        ({"requests.cpu": "4"}, {"requests.cpu": "3001m"}, 1),
        ({"cpu": "4"}, {"cpu": "3500m"}, 1),
        ({"pods": "10"}, {"pods": "8"}, 0),
        ({"pods": "10"}, {"pods": "9"}, 1),
        ({"count/pods": "10"}, {"count/pods": "9"}, 1),
        ({"limits.cpu": "1"}, {"limits.cpu": "1"}, 0),
        ({"requests.memory": "1Gi"}, {"requests.memory": "600Mi"}, 1),
        ({"configmaps": "1"}, {"configmaps": "3"}, 0),
        ({"pods": "1", "requests.cpu": "0"}, {}, 2),
    ],
)
def test_a_quota_must_have_room_for_every_pod(hard: Document, used: Document, problems: int) -> None:
    assert len(quota_problems(quota(hard, used), [Surge("api", 2, SPEC)])) == problems


@pytest.mark.parametrize(
    ("spec", "counts"),
    [
        ({"scopes": ["Terminating"]}, False),
        ({"scopes": ["NotTerminating"]}, True),
        ({"scopes": ["BestEffort"]}, False),
        ({"scopes": ["NotBestEffort"]}, True),
        (
            {
                "scopeSelector": {
                    "matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]
                }
            },
            False,
        ),
        ({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}, True),
        ({"scopes": ["CrossNamespacePodAffinity"]}, True),
    ],
)
def test_a_quota_with_scopes_counts_what_it_is_for(spec: Document, counts: bool) -> None:
    assert bool(quota_problems(quota({"pods": "0"}, {}, **spec), [Surge("api", 1, SPEC)])) == counts


def node(
    name: str, cpu: str, *, ready: bool = True, pods: str = "110", labels: Document | None = None, **spec: Any
) -> Document:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cpu, "memory": "8Gi", "pods": pods},
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


TAINT = {"key": "team", "value": "a", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("nodes", "spec", "fits"),
    [
        ([node("a", "1")], {}, True),
        ([node("a", "500m"), node("b", "500m")], {}, True),
        ([node("a", "900m")], {}, False),
        ([node("a", "1", pods="1")], {}, False),
        ([node("a", "1", ready=False)], {}, False),
        ([node("a", "1", unschedulable=True)], {}, False),
        ([node("a", "1", taints=[TAINT])], {}, False),
        ([node("a", "1", taints=[TAINT])], {"tolerations": [{"operator": "Exists"}]}, True),
        (
            [node("a", "1", taints=[TAINT])],
            {"tolerations": [{"key": "team", "value": "a", "effect": "NoSchedule"}]},
            True,
        ),
        ([node("a", "1", taints=[TAINT])], {"tolerations": [{"key": "team", "value": "b"}]}, False),
        ([node("a", "1", taints=[{**TAINT, "effect": "PreferNoSchedule"}])], {}, True),
        ([node("a", "1")], {"nodeSelector": {"disk": "ssd"}}, False),
        ([node("a", "1", labels={"disk": "ssd"})], {"nodeSelector": {"disk": "ssd"}}, True),
        ([], {}, False),
    ],
)
def test_pods_fit_only_on_nodes_that_take_them(nodes: list[Document], spec: Document, fits: bool) -> None:
    assert (node_problem(nodes, [], [Surge("api", 2, {**SPEC, **spec})]) == "") == fits


@given(st.integers(0, 12), st.lists(st.integers(0, 8), max_size=4))
def test_equal_pods_fit_exactly_as_many_as_there_are_halves_of_a_cpu(pods: int, halves: list[int]) -> None:
    nodes = [node(f"n{number}", f"{half * 500}m") for number, half in enumerate(halves)]
    assert (node_problem(nodes, [], [Surge("api", pods, SPEC)]) == "") == (pods <= sum(halves))


def test_what_runs_already_takes_its_place_and_what_has_ended_none() -> None:
    running = {"spec": {**SPEC, "nodeName": "a"}, "status": {"phase": "Running"}}
    ended = {"spec": {**SPEC, "nodeName": "a"}, "status": {"phase": "Succeeded"}}
    assert node_problem([node("a", "1")], [ended], [Surge("api", 2, SPEC)]) == ""
    assert "1 of 2 more Pods of api" in node_problem([node("a", "1")], [running], [Surge("api", 2, SPEC)])


def put_quota(api: KubernetesApi, used: str) -> None:
    hard = {"pods": "10"}
    api.put(
        {
            "apiVersion": "v1",
            "kind": "ResourceQuota",
            "metadata": {"name": "team", "namespace": NAMESPACE},
            "spec": {"hard": hard},
        }
    )
    api.set_status("v1", "resourcequotas", NAMESPACE, "team", used={"pods": used})


def put_autoscaler(api: KubernetesApi, current: int, target: str = "api") -> None:
    api.put(
        {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": f"{target}-scaler", "namespace": NAMESPACE},
            "spec": {"maxReplicas": 20, "scaleTargetRef": {"kind": "Deployment", "name": target}},
            "status": {"currentReplicas": current},
        }
    )


def capacity(client: KubernetesClient, strategy: str = "rolling", **checks: Any) -> ReleaseCheck:
    traffic = {"kind": "service", "name": "api"} if strategy == "blue-green" else {}
    release = release_with(
        [{"name": "api"}, {"name": "worker", "role": "worker"}],
        strategy=strategy,
        traffic=traffic,
        checks=checks,
    )
    return check_capacity(preflight_for(release, client=client))


def test_room_for_the_surge_passes_and_blue_green_needs_more_of_it(apps: Apps) -> None:
    api, client = apps
    api.put(deployment(replicas=4))
    api.put(deployment("worker", replicas=2))
    put_quota(api, "8")
    put_autoscaler(api, 4)
    put_autoscaler(api, 20, target="other")
    check = capacity(client)
    assert (check.state, check.evidence["surge"]) == ("passed", {"deployment/api": 1, "deployment/worker": 1})
    check = capacity(client, "blue-green")
    assert check.evidence["surge"] == {"deployment/api": 4, "deployment/worker": 1}
    assert (check.state, check.found) == ("failed", "quota team: pods has 2 left of 10, and the release needs 5")


def test_an_autoscaler_at_its_maximum_fails(apps: Apps) -> None:
    api, client = apps
    api.put(deployment())
    api.put(deployment("worker"))
    put_autoscaler(api, 20)
    check = capacity(client)
    assert (check.state, check.found) == ("failed", "autoscaler api-scaler is at its maximum of 20")


@pytest.mark.parametrize("part", ["/deployments/", "/resourcequotas", "/horizontalpodautoscalers"])
@pytest.mark.parametrize("code", [403, 500, 0])
def test_capacity_that_cannot_be_asked_fails(apps: Apps, part: str, code: int) -> None:
    api, client = apps
    api.put(deployment())
    api.put(deployment("worker"))
    assert capacity(client).state == "passed"
    api.fail("GET", part, code, times=9)
    assert capacity(client).state == "failed"


def test_a_workload_that_does_not_exist_has_no_capacity(apps: Apps) -> None:
    assert capacity(apps[1]).state == "failed"


def nodes_of(client: KubernetesClient) -> ReleaseCheck:
    return check_nodes(preflight_for(client=client, capacity={"nodes": True}))


def test_nodes_are_looked_at_when_that_is_asked_for(apps: Apps) -> None:
    api, client = apps
    api.put(deployment())
    api.put(node("a", "1"))
    assert nodes_of(client).state == "passed"
    full = {"containers": [{"name": "main", "resources": {"requests": {"cpu": "800m"}}}], "nodeName": "a"}
    api.put({**pod("busy", "x"), "spec": full})
    check = nodes_of(client)
    assert (check.state, "0 of 1 more Pods" in check.found) == ("failed", True)
    assert check_nodes(preflight_for(client=client)).state == "not-configured"


def test_without_the_right_to_look_at_nodes_nobody_knows_and_a_silent_api_fails(apps: Apps) -> None:
    api, client = apps
    api.put(deployment())
    api.fail("GET", "/api/v1/nodes", 403)
    check = nodes_of(client)
    assert (check.state, "403" in check.found) == ("not-configured", True)
    api.fail("GET", "/api/v1/nodes", 500, times=9)
    assert nodes_of(client).state == "failed"
