"""Items rollback-target and staging: the old image can be had again, the new one was tried."""

import re
from typing import Any

import pytest

from core.environment_release import Release
from core.image_reference import ResolvedImage
from core.live_image import label_selector, live_image
from tasks.check_images import check_rollback_target, check_staging
from tasks.kubernetes_client import KubernetesClient
from tests.fix_kubernetes import KubernetesApi
from tests.fix_preflight import KEY, NEW, OLD, REPOSITORY, deployment, pod, preflight_for, release_with
from tests.fix_registry import ImageRegistry

Apps = tuple[KubernetesApi, KubernetesClient]


def release_at(registry: ImageRegistry, **settings: Any) -> Release:
    return release_with(registry={"address": registry.address}, **settings)


@pytest.fixture
def old(image_registry: ImageRegistry) -> str:
    """The digest of an image that the registry has."""
    return image_registry.push("team/api", "1.4")


def test_a_live_image_that_its_registry_has_can_be_had_again(
    apps: Apps, image_registry: ImageRegistry, old: str
) -> None:
    api, client = apps
    api.put(deployment(image=f"{REPOSITORY}:1.4"))
    api.put(pod("api-1", f"{REPOSITORY}:1.4", f"{REPOSITORY}@{old}"))
    api.put(pod("api-2", f"{REPOSITORY}:1.4", f"docker-pullable://{REPOSITORY}@{old}"))
    api.put(pod("other", "nginx", f"nginx@{NEW}", app="other"))
    check = check_rollback_target(preflight_for(release_at(image_registry), client=client))
    assert (check.state, check.evidence["targets"]) == ("passed", {KEY: f"{REPOSITORY}@{old}"})


@pytest.mark.parametrize(
    "live", ["{old}", "registry.example.com/team/api@{old}", "registry.example.com/team/api:1.4@{old}"]
)
def test_a_live_image_that_is_known_is_not_read_from_the_cluster(
    image_registry: ImageRegistry, old: str, live: str
) -> None:
    check = check_rollback_target(preflight_for(release_at(image_registry), live={KEY: live.replace("{old}", old)}))
    assert check.state == "passed"
    assert image_registry.count(f"/v2/team/api/manifests/{old}") == 1


def test_an_image_that_is_gone_from_its_registry_fails(image_registry: ImageRegistry, old: str) -> None:
    image_registry.remove("team/api", old)
    check = check_rollback_target(preflight_for(release_at(image_registry), live={KEY: old}))
    assert (check.state, "404" in check.found) == ("failed", True)


@pytest.mark.parametrize("code", [0, 403, 500])
def test_a_registry_that_cannot_be_asked_fails(
    image_registry: ImageRegistry, old: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.web_api._backoff", lambda _state: 0.01)
    image_registry.fail("/manifests/", code, times=9)
    assert check_rollback_target(preflight_for(release_at(image_registry), live={KEY: old})).state == "failed"


@pytest.mark.parametrize(
    ("pods", "template", "found"),
    [
        ([], f"{REPOSITORY}:1.4", "no ready Pod, and .*:1.4 is no digest"),
        ([("a", f"{REPOSITORY}@{OLD}"), ("b", f"{REPOSITORY}@{NEW}")], f"{REPOSITORY}:1.4", "several images at once"),
        ([("a", OLD)], f"{REPOSITORY}:1.4", "1 ready Pods run an image that no registry has"),
        ([("a", f"elsewhere.example.com/api@{OLD}")], f"{REPOSITORY}:1.4", "another registry"),
    ],
)
def test_a_live_image_that_is_not_known_fails(
    apps: Apps, image_registry: ImageRegistry, pods: list[tuple[str, str]], template: str, found: str
) -> None:
    api, client = apps
    api.put(deployment(image=template))
    for name, image_id in pods:
        api.put(pod(name, template, image_id))
    check = check_rollback_target(preflight_for(release_at(image_registry), client=client))
    assert check.state == "failed"
    assert re.search(found, check.found)
    assert image_registry.requests == []


def test_a_first_release_has_nothing_to_go_back_to(apps: Apps, image_registry: ImageRegistry) -> None:
    check = check_rollback_target(preflight_for(release_at(image_registry), client=apps[1]))
    assert (check.state, "nothing is live" in check.found) == ("failed", True)


def test_without_a_registry_nobody_knows_whether_it_can_be_pulled() -> None:
    check = check_rollback_target(preflight_for(release_with(registry={"kind": "none"}), live={KEY: OLD}))
    assert check.state == "not-configured"


def test_a_cluster_that_refuses_fails(apps: Apps, image_registry: ImageRegistry) -> None:
    api, client = apps
    api.put(deployment())
    api.fail("GET", "/pods", 403)
    assert check_rollback_target(preflight_for(release_at(image_registry), client=client)).state == "failed"


def staging_of(client: KubernetesClient, images: dict[str, ResolvedImage] | None = None) -> Any:
    return check_staging(preflight_for(client=client, staging={"namespace": "apps"}, images=images))


def test_staging_that_runs_the_same_digest_passes(apps: Apps) -> None:
    api, client = apps
    api.put(deployment(image=f"{REPOSITORY}@{NEW}"))
    api.put(pod("api-1", f"{REPOSITORY}@{NEW}"))
    api.put(pod("going", f"{REPOSITORY}@{OLD}", ready=False))
    check = staging_of(client)
    assert (check.state, check.evidence["images"]) == ("passed", {KEY: f"{REPOSITORY}@{NEW}"})


def test_staging_that_was_rolled_out_and_sleeps_passes(apps: Apps) -> None:
    api, client = apps
    api.put(deployment(image=f"{REPOSITORY}@{NEW}", replicas=0))
    assert staging_of(client).state == "failed", "nobody knows that it ever ran"
    done = [{"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable"}]
    api.set_status("apps/v1", "deployments", "apps", "api", conditions=done)
    assert staging_of(client).state == "passed"
    api.set_status("apps/v1", "deployments", "apps", "api", observedGeneration=2)
    assert staging_of(client).state == "failed", "the condition is of another template"


@pytest.mark.parametrize(
    "pods",
    [
        [f"{REPOSITORY}@{OLD}"],
        [f"{REPOSITORY}@{NEW}", f"{REPOSITORY}@{OLD}"],
        [f"{REPOSITORY}@{NEW}", f"{REPOSITORY}:1.5"],
        [],
    ],
)
def test_staging_that_runs_something_else_fails(apps: Apps, pods: list[str]) -> None:
    api, client = apps
    api.put(deployment(image=f"{REPOSITORY}@{NEW}"))
    for number, image in enumerate(pods):
        api.put(pod(f"api-{number}", image))
    check = staging_of(client)
    assert (check.state, f"not {NEW}" in check.found) == ("failed", True)


def test_staging_that_is_not_there_or_cannot_be_asked_fails(apps: Apps) -> None:
    api, client = apps
    assert "does not exist in apps" in staging_of(client).found
    api.put(deployment())
    assert "new image is not known" in staging_of(client, images={}).found
    api.fail("GET", "/deployments/", 403, times=9)
    assert staging_of(client).state == "failed"
    gone = check_staging(preflight_for(client=client, staging={"namespace": "apps", "context": "nowhere"}))
    assert gone.state == "failed"
    assert check_staging(preflight_for(client=client)).state == "not-configured"


def test_what_a_pod_pins_counts_before_what_its_node_tells() -> None:
    live = live_image({"containers": []}, [pod("a", f"{REPOSITORY}:1.5@{NEW}", f"{REPOSITORY}@{OLD}")], "main")
    assert (live.images, live.unknown) == ((f"{REPOSITORY}@{NEW}",), 0)


def test_a_selector_is_written_as_the_api_reads_it() -> None:
    rules = [
        {"key": "tier", "operator": "In", "values": ["a", "b"]},
        {"key": "tier", "operator": "NotIn", "values": ["c"]},
        {"key": "x", "operator": "Exists"},
        {"key": "y", "operator": "DoesNotExist"},
    ]
    selector = {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": rules}
    assert label_selector(selector) == "a=1,b=2,tier in (a,b),tier notin (c),x,!y"
    with pytest.raises(ValueError, match="empty"):
        label_selector({})
