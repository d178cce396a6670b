"""Making, scaling, pinning and retiring the sides of a release, on an API server that loses answers, and under a lease that is taken over."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from core.colour_pair import COLOUR, WORKLOAD, pod_labels, selector_of
from core.errors import PermanentError
from core.fence import Fence, FencedError, fence_number
from core.replica_sizes import ORIGINAL
from tasks.colour_sizes import match_size, pin, release_sizes, retire, scale, unpin
from tasks.colours import (
    Sides,
    ensure_side,
    managed_paths,
    planned_changes,
    read_sides,
    serving_side,
    side_documents,
)
from tasks.config_copies import find_unused_copies, read_config_copies
from tasks.fenced import stamp
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tests.fix_colours import NAMESPACE, everything, named
from tests.fix_kubernetes import Document, KubernetesApi

IMAGES = {"api": "registry.example.com/team/api@sha256:" + "a" * 64}
OURS, LATER = Fence("production", "release-1", 4), Fence("production", "recovery-1", 5)
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
SCALERS = f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers"
POLICIES = f"/apis/networking.k8s.io/v1/namespaces/{NAMESPACE}/networkpolicies"
BUDGETS = f"/apis/policy/v1/namespaces/{NAMESPACE}/poddisruptionbudgets"
MADE = [
    "configmaps/settings-",
    "networkpolicies/api-in-blue",
    "poddisruptionbudgets/api-budget-blue",
    "services/api-blue",
    "deployments/api-blue",
    "horizontalpodautoscalers/api-blue",
]


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    kubernetes.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
    for document in everything():
        kubernetes.put(document)
    with KubernetesClient.open(None) as opened:
        yield opened


def sides_now(client: KubernetesClient, live_name: str = "api") -> Sides:
    return read_sides(client, NAMESPACE, "production", "api", live_name=live_name, service="api")


def take_over(client: KubernetesClient, fence: Fence, live_name: str = "api") -> Sides:
    sides = sides_now(client, live_name)
    for path in managed_paths(client, sides):
        stamp(client, path, fence)
    return sides


def make(client: KubernetesClient, fence: Fence = OURS, live_name: str = "api") -> dict[str, str]:
    sides = sides_now(client, live_name)
    copies = read_config_copies(client, NAMESPACE, "production", ["settings"])
    documents = side_documents(sides, IMAGES, copies)
    return {**ensure_side(client, fence, documents, anchor=f"{DEPLOYMENTS}/{live_name}")}


def writes(kubernetes: KubernetesApi) -> int:
    return sum(1 for method, _ in kubernetes.requests if method in {"POST", "PATCH", "PUT", "DELETE"})


def no_write(kubernetes: KubernetesApi, action: Callable[[], Any]) -> Any:
    """Do it, and see that nothing was written."""
    before = writes(kubernetes)
    result = action()
    assert writes(kubernetes) == before
    return result


def test_all_that_a_side_consists_of_is_made_once_policies_first_and_carries_the_holders_number(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    take_over(client, OURS)
    made = make(client)
    assert all(part in path for part, path in zip(MADE, made, strict=True))
    assert set(made.values()) == {"created"}
    for path in made:
        found = client.get(path)
        assert fence_number(found) == 4
        assert found["metadata"]["labels"]["nightshift.dev/environment"] == "production"
    assert client.get(f"{DEPLOYMENTS}/api-blue")["spec"]["replicas"] == 0
    assert set(no_write(kubernetes, lambda: make(client)).values()) == {"unchanged"}


def test_the_live_side_is_found_by_the_services_selector(client: KubernetesClient) -> None:
    take_over(client, OURS)
    make(client)
    assert serving_side(client, NAMESPACE, "api", "api") == "api"
    names = {one["metadata"]["name"] for one in sides_now(client).around.deployments}
    assert names >= {"api", "api-blue"}
    service = f"/api/v1/namespaces/{NAMESPACE}/services/api"
    blue = client.get(f"{DEPLOYMENTS}/api-blue")
    client.merge(service, {"spec": {"selector": selector_of(blue, {"app": "api"})}})
    assert serving_side(client, NAMESPACE, "api", "api") == "api-blue"


def test_after_the_switch_green_follows_blue_and_the_next_blue_is_brought_up_to_date(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    take_over(client, OURS)
    make(client)
    old_copy = next(path for path in make(client) if "configmaps" in path)
    service = f"/api/v1/namespaces/{NAMESPACE}/services/api"
    for live_name, following in (("api-blue", "api-green"), ("api-green", "api-blue")):
        live = client.get(f"{DEPLOYMENTS}/{live_name}")
        client.merge(service, {"spec": {"selector": selector_of(live, {"app": "api"})}})
        # A person changes what is live, and the configuration: both travel.
        containers = live["spec"]["template"]["spec"]["containers"]
        containers[0]["env"] = [{"name": "BY_HAND", "value": live_name}]
        client.merge(
            f"{DEPLOYMENTS}/{live_name}", {"spec": {"replicas": 3, "template": {"spec": {"containers": containers}}}}
        )
        client.merge(f"/api/v1/namespaces/{NAMESPACE}/configmaps/settings", {"data": {"MODE": live_name}})
        take_over(client, OURS, live_name)
        outcomes = make(client, live_name=live_name)
        made = client.get(f"{DEPLOYMENTS}/{following}")
        assert made["spec"]["template"]["spec"]["containers"][0]["env"] == [{"name": "BY_HAND", "value": live_name}]
        copy = made["spec"]["template"]["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]
        assert client.get(f"/api/v1/namespaces/{NAMESPACE}/configmaps/{copy}")["data"] == {"MODE": live_name}
        assert not old_copy.endswith(copy)
        assert set(no_write(kubernetes, lambda name=live_name: make(client, live_name=name)).values()) == {"unchanged"}
    assert outcomes[f"{DEPLOYMENTS}/api-blue"] == "changed"
    assert pod_labels(made)[COLOUR] == "blue"
    names = [one["metadata"]["name"] for one in client.list(BUDGETS)]
    assert names == ["api-budget", "api-budget-blue", "api-budget-green"]


@pytest.mark.parametrize("part", [made.partition("/")[0] for made in MADE])
@pytest.mark.parametrize("after", [False, True])
def test_a_creation_whose_answer_was_lost_is_found_and_not_made_twice(
    kubernetes: KubernetesApi, client: KubernetesClient, part: str, after: bool
) -> None:
    take_over(client, OURS)
    kubernetes.fail("POST", f"/{part}", 0, after=after)
    made = make(client)
    assert len(made) == len(MADE)
    assert kubernetes.count("POST", f"/{part}") == (1 if after else 2)
    assert set(no_write(kubernetes, lambda: make(client)).values()) == {"unchanged"}


@pytest.mark.parametrize(("kind", "api_version"), [("Deployment", "apps/v1"), ("Service", "v1"), ("HorizontalPodAutoscaler", "autoscaling/v2")])  # fmt: skip
def test_an_object_of_that_name_that_is_not_ours_is_refused_and_not_even_stamped(
    kubernetes: KubernetesApi, client: KubernetesClient, kind: str, api_version: str
) -> None:
    foreign = next(one for one in everything() if one["kind"] == kind)
    foreign["metadata"] = {"name": "api-blue", "namespace": NAMESPACE}
    take_over(client, OURS)
    made = kubernetes.put(foreign)
    with pytest.raises(PermanentError, match="somebody else made it"):
        make_documents(client)
    plural = f"{kind.lower()}s"
    group = "/api/v1" if api_version == "v1" else f"/apis/{api_version}"
    assert client.get(f"{group}/namespaces/{NAMESPACE}/{plural}/api-blue") == made


def make_documents(client: KubernetesClient) -> None:
    """As `make`, from sides that were read before the foreign object was there."""
    sides = sides_now(client)
    clean = Sides(sides.pair, sides.live, None, sides.service, sides.around)
    ensure_side(client, OURS, side_documents(clean, IMAGES, {}), anchor=f"{DEPLOYMENTS}/api")


def test_a_holder_that_slept_through_a_take_over_makes_changes_scales_and_pins_nothing(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    take_over(client, OURS)
    documents = side_documents(sides_now(client), IMAGES, {})
    ensure_side(client, OURS, documents[:2], anchor=f"{DEPLOYMENTS}/api")
    take_over(client, LATER)
    for path in (f"{POLICIES}/api-in-blue", f"{BUDGETS}/api-budget-blue"):
        stamp(client, path, LATER)
    # What is there already, and what only now would come to be.
    for some in (documents[:2], documents[2:]):

        def again(some: list[Document] = some) -> None:
            with pytest.raises(FencedError):
                ensure_side(client, OURS, some, anchor=f"{DEPLOYMENTS}/api")

        no_write(kubernetes, again)
    for action in (
        lambda: scale(client, OURS, f"{DEPLOYMENTS}/api", 9),
        lambda: pin(client, OURS, f"{SCALERS}/api-scaler", 9),
        lambda: unpin(client, OURS, f"{SCALERS}/api-scaler"),
        lambda: retire(client, OURS, NAMESPACE, "api", shares={"api-blue": 100}),
    ):

        def refused(action: Callable[[], Any] = action) -> None:
            with pytest.raises(FencedError):
                action()

        no_write(kubernetes, refused)


def test_a_take_over_between_look_and_write_is_seen_by_the_resource_version(
    kubernetes: KubernetesApi, client: KubernetesClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_over(client, OURS)
    merge = client.merge

    def slow(path: str, document: Document, **how: Any) -> Document:
        monkeypatch.setattr(client, "merge", merge)
        stamp(client, f"{DEPLOYMENTS}/api", LATER)
        return merge(path, document, **how)

    monkeypatch.setattr(client, "merge", slow)
    with pytest.raises(FencedError, match="recovery-1"):
        scale(client, OURS, f"{DEPLOYMENTS}/api", 9)
    assert client.get(f"{DEPLOYMENTS}/api")["spec"]["replicas"] == 3


def test_the_size_is_set_by_the_scale_subresource_once(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    take_over(client, OURS)
    kubernetes.fail("PATCH", "/scale", 0, after=True)
    scale(client, OURS, f"{DEPLOYMENTS}/api", 9)
    assert kubernetes.count("PATCH", "/scale") == 1
    assert not no_write(kubernetes, lambda: scale(client, OURS, f"{DEPLOYMENTS}/api", 9))
    assert client.get(f"{DEPLOYMENTS}/api")["spec"]["replicas"] == 9


def ready_pair(client: KubernetesClient) -> None:
    take_over(client, OURS)
    make(client)


def test_the_following_side_gets_the_live_size_and_grows_with_it_from_3_to_30(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    ready_pair(client)
    client.merge(f"{SCALERS}/api-scaler", {"spec": {"maxReplicas": 30}})
    make(client)

    def size_of(name: str) -> tuple[int, int]:
        scaler = "api-scaler" if name == "api" else name
        return client.get(f"{DEPLOYMENTS}/{name}")["spec"]["replicas"], client.get(f"{SCALERS}/{scaler}")["spec"][
            "minReplicas"
        ]

    assert match_size(client, OURS, NAMESPACE, serving="api", other="api-blue").is_enough
    assert size_of("api") == size_of("api-blue") == (3, 3)
    no_write(kubernetes, lambda: match_size(client, OURS, NAMESPACE, serving="api", other="api-blue"))
    # The live side's autoscaler decides for 30 in the middle of a shift; its Deployment is not there yet.
    kubernetes.set_status("autoscaling/v2", "horizontalpodautoscalers", NAMESPACE, "api-scaler", desiredReplicas=30)
    size = match_size(client, OURS, NAMESPACE, serving="api", other="api-blue")
    assert (size.replicas, size.is_enough) == (30, True)
    assert size_of("api-blue") == (30, 30)
    # Back: the old side is scaled first, to what the new one has by then.
    scale(client, OURS, f"{DEPLOYMENTS}/api", 1)
    kubernetes.set_status("autoscaling/v2", "horizontalpodautoscalers", NAMESPACE, "api-scaler", desiredReplicas=1)
    assert match_size(client, OURS, NAMESPACE, serving="api-blue", other="api").replicas == 30
    assert size_of("api") == (30, 30)
    release_sizes(client, OURS, NAMESPACE, ["api", "api-blue"])
    assert size_of("api") == size_of("api-blue") == (30, 2)
    no_write(kubernetes, lambda: release_sizes(client, OURS, NAMESPACE, ["api", "api-blue"]))


def test_a_size_that_a_quota_does_not_allow_is_told_and_not_passed_over(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    ready_pair(client)
    quota = named("v1", "ResourceQuota", "q") | {"spec": {"hard": {"pods": "5"}}}
    kubernetes.put(quota)
    kubernetes.set_status("v1", "resourcequotas", NAMESPACE, "q", used={"pods": "3"})
    size = match_size(client, OURS, NAMESPACE, serving="api", other="api-blue")
    assert (size.replicas, size.is_enough, size.limited_by) == (2, False, "a quota: 2 more Pods fit")
    assert client.get(f"{DEPLOYMENTS}/api-blue")["spec"]["replicas"] == 2


def test_a_side_is_never_made_smaller_to_match(client: KubernetesClient) -> None:
    ready_pair(client)
    scale(client, OURS, f"{DEPLOYMENTS}/api-blue", 12)
    match_size(client, OURS, NAMESPACE, serving="api", other="api-blue")
    assert client.get(f"{DEPLOYMENTS}/api-blue")["spec"]["replicas"] == 12


def test_a_retired_side_has_no_pods_and_its_autoscaler_is_as_it_was(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    ready_pair(client)
    match_size(client, OURS, NAMESPACE, serving="api", other="api-blue")
    assert retire(client, OURS, NAMESPACE, "api", shares={"api": 0, "api-blue": 100})
    assert client.get(f"{DEPLOYMENTS}/api")["spec"]["replicas"] == 0
    scaler = client.get(f"{SCALERS}/api-scaler")
    assert scaler["spec"]["minReplicas"] == 2
    assert ORIGINAL not in scaler["metadata"].get("annotations", {})
    assert not no_write(kubernetes, lambda: retire(client, OURS, NAMESPACE, "api", shares={"api": 0, "api-blue": 100}))


@pytest.mark.parametrize("shares", [{}, {"api": 100}, {"api": 1, "api-blue": 99}, {"api-blue": 0}])
def test_a_side_with_traffic_is_not_retired_nor_one_when_nobody_knows_where_the_traffic_is(
    kubernetes: KubernetesApi, client: KubernetesClient, shares: dict[str, int]
) -> None:
    take_over(client, OURS)

    def refused() -> None:
        with pytest.raises(PermanentError, match="Shift its traffic first"):
            retire(client, OURS, NAMESPACE, "api", shares=shares)

    no_write(kubernetes, refused)


def test_a_new_holder_stamps_all_that_was_made_and_the_live_deployment_first(client: KubernetesClient) -> None:
    take_over(client, OURS)
    made = make(client)
    take_over(client, LATER)
    assert managed_paths(client, sides_now(client))[0] == f"{DEPLOYMENTS}/api"
    assert {fence_number(client.get(path)) for path in made if "configmaps" not in path} == {5}


def test_the_plan_tells_what_would_be_written_and_nothing_is(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    take_over(client, OURS)
    documents = side_documents(
        sides_now(client), IMAGES, read_config_copies(client, NAMESPACE, "production", ["settings"])
    )
    planned = planned_changes(client, documents)
    assert list(planned.values()) == documents
    make(client)
    assert planned_changes(client, documents) == {}
    documents[-2]["spec"]["minReadySeconds"] = 7
    assert planned_changes(client, documents) == {f"{DEPLOYMENTS}/api-blue": {"spec": {"minReadySeconds": 7}}}
    assert "minReadySeconds" not in client.get(f"{DEPLOYMENTS}/api-blue")["spec"]


def test_copies_that_nothing_can_read_any_more_are_named_and_none_that_an_earlier_revision_reads(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    take_over(client, OURS)
    first = next(path for path in make(client) if "configmaps" in path)
    settings = f"/api/v1/namespaces/{NAMESPACE}/configmaps/settings"
    client.merge(settings, {"data": {"MODE": "second"}})
    second = next(path for path in make(client) if "configmaps" in path)
    # An earlier revision, as the Deployment's controller keeps it, reads the first.
    template = {
        "spec": {"containers": [{"name": "api", "envFrom": [{"configMapRef": {"name": first.rpartition("/")[2]}}]}]}
    }
    kept = kubernetes.put(named("apps/v1", "ReplicaSet", "api-blue-1") | {"spec": {"template": template}})
    assert find_unused_copies(client, NAMESPACE, "production") == ()
    client.delete(f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets/api-blue-1", uid=kept["metadata"]["uid"])
    assert find_unused_copies(client, NAMESPACE, "staging") == ()
    assert find_unused_copies(client, NAMESPACE, "production") == (first.rpartition("/")[2],)
    assert client.get(second) and client.get(settings)


def test_a_workload_without_autoscaler_budget_and_policies_is_a_pair_too(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    for path in (f"{SCALERS}/api-scaler", f"{BUDGETS}/api-budget"):
        client.delete(path, uid=client.get(path)["metadata"]["uid"])
    take_over(client, OURS)
    made = make(client)
    assert [path.rpartition("/")[2] for path in made][-2:] == ["api-blue", "api-blue"]
    assert match_size(client, OURS, NAMESPACE, serving="api", other="api-blue").is_enough


def test_what_is_missing_is_told_by_name(client: KubernetesClient) -> None:
    with pytest.raises(PermanentError, match="no deployment/api-green"):
        sides_now(client, "api-green")
    with pytest.raises(PermanentError, match="no service/front"):
        read_sides(client, NAMESPACE, "production", "api", live_name="api", service="front")
    with pytest.raises(MissingError):
        read_config_copies(client, NAMESPACE, "production", ["none"])


def test_a_copy_whose_content_was_altered_is_told(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    take_over(client, OURS)
    copy = next(path for path in make(client) if "configmaps" in path)
    altered = client.get(copy)
    client.delete(copy, uid=altered["metadata"]["uid"])
    metadata = {key: altered["metadata"][key] for key in ("name", "namespace", "labels")}
    kubernetes.put({**altered, "metadata": metadata, "data": {"MODE": "other"}})
    with pytest.raises(PermanentError, match="not what its name says"):
        make(client)


def test_marks_of_the_workload_are_on_the_pods(client: KubernetesClient) -> None:
    take_over(client, OURS)
    make(client)
    assert pod_labels(client.get(f"{DEPLOYMENTS}/api-blue"))[WORKLOAD] == "api"
