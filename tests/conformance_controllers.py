"""The checks of kubernetes_conformance that need controllers and a node: rollouts, Jobs, endpoints."""

from tests.kubernetes_conformance import (
    Document,
    World,
    conditions_of,
    deployment,
    job,
    rolled_out,
    told,
)
from tests.waiting import wait_until

REVISION = "deployment.kubernetes.io/revision"
CONDITION = {"type", "status", "reason", "message", "lastUpdateTime", "lastTransitionTime"}


def _set_image(world: World, image: str, **spec: object) -> Document:
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "api", "image": image}]}}, **spec}}
    return world.client.merge(world.path("apps/v1", "deployments", "api"), patch, strategic=True)


def _replica_sets(world: World) -> dict[str, Document]:
    """By their images."""
    found = world.client.list(world.path("apps/v1", "replicasets"), labelSelector="app=api")
    return {one["spec"]["template"]["spec"]["containers"][0]["image"]: one for one in found}


def _pods(world: World, image: str) -> list[Document]:
    found = world.client.list(world.path("v1", "pods"), labelSelector="app=api")
    return [one for one in found if one["spec"]["containers"][0]["image"] == image and "deletionTimestamp" not in one["metadata"]]  # fmt: skip


def _waits(pod: Document) -> str:
    """What its one container waits for."""
    (state,) = [one.get("state") or {} for one in (pod.get("status") or {}).get("containerStatuses") or ()] or [{}]
    return (state.get("waiting") or {}).get("reason") or ""


def a_good_rollout_and_its_way_back_end_available(world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first))
    first = rolled_out(world)
    assert first["metadata"]["annotations"][REVISION] == "1"
    numbers = {"replicas": 2, "updatedReplicas": 2, "readyReplicas": 2, "availableReplicas": 2}
    status = {key: value for key, value in first["status"].items() if key != "conditions"}
    assert status == {**numbers, "observedGeneration": 1}
    conditions = conditions_of(first)
    assert {kind: set(one) for kind, one in conditions.items()} == {"Available": CONDITION, "Progressing": CONDITION}
    assert told(first, "Available") == ("True", "MinimumReplicasAvailable")
    _set_image(world, world.second)
    second = rolled_out(world)
    sets = _replica_sets(world)
    new = sets[world.second]["metadata"]
    assert conditions_of(second)["Progressing"]["message"] == f'ReplicaSet "{new["name"]}" has successfully progressed.'
    assert {image: one["spec"]["replicas"] for image, one in sets.items()} == {world.first: 0, world.second: 2}
    assert new["labels"]["pod-template-hash"] == new["name"].removeprefix("api-")
    assert new["ownerReferences"][0]["uid"] == second["metadata"]["uid"]
    assert (new["annotations"][REVISION], second["metadata"]["annotations"][REVISION]) == ("2", "2")
    # Back to the old template: its ReplicaSet is taken up again, under a new revision.
    _set_image(world, world.first)
    assert rolled_out(world)["metadata"]["annotations"][REVISION] == "3"
    back = _replica_sets(world)[world.first]["metadata"]
    assert (back["uid"], back["annotations"][REVISION]) == (sets[world.first]["metadata"]["uid"], "3")


def an_image_that_is_not_there_runs_into_the_deadline_and_the_old_pods_stay(world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first))
    rolled_out(world)
    _set_image(world, world.missing, progressDeadlineSeconds=world.progress_deadline)
    path = world.path("apps/v1", "deployments", "api")
    stuck = world.wait(path, lambda one: told(one, "Progressing")[0] == "False", "the deadline has passed")
    assert told(stuck, "Progressing") == ("False", "ProgressDeadlineExceeded")
    name = _replica_sets(world)[world.missing]["metadata"]["name"]
    assert conditions_of(stuck)["Progressing"]["message"] == f'ReplicaSet "{name}" has timed out progressing.'
    assert told(stuck, "Available") == ("True", "MinimumReplicasAvailable")
    status = {key: value for key, value in stuck["status"].items() if key != "conditions"}
    numbers = {"replicas": 3, "updatedReplicas": 1, "readyReplicas": 2, "availableReplicas": 2, "unavailableReplicas": 1}  # fmt: skip
    assert status == {**numbers, "observedGeneration": stuck["metadata"]["generation"]}
    (pod,) = _pods(world, world.missing)
    # A busy kubelet may come to the Pod after the deadline.
    name = world.path("v1", "pods", pod["metadata"]["name"])
    pod = world.wait(name, lambda one: _waits(one) in {"ErrImagePull", "ImagePullBackOff"}, "the image was not found")
    assert pod["status"]["phase"] == "Pending"
    assert len(_pods(world, world.first)) == 2
    # The way out: the condition of the failed one does not stay.
    _set_image(world, world.first)
    assert told(rolled_out(world), "Progressing") == ("True", "NewReplicaSetAvailable")


def a_paused_deployment_says_so_and_rolls_nothing(world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first))
    rolled_out(world)
    _set_image(world, world.second, paused=True)
    path = world.path("apps/v1", "deployments", "api")
    paused = world.wait(path, lambda one: told(one, "Progressing")[0] == "Unknown", "it is paused")
    assert told(paused, "Progressing") == ("Unknown", "DeploymentPaused")
    assert set(_replica_sets(world)) == {world.first}
    world.client.merge(path, {"spec": {"paused": False}})
    rolled_out(world)
    assert set(_replica_sets(world)) == {world.first, world.second}


def a_quota_shows_as_a_replica_failure(world: World) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
    world.make("v1", "resourcequotas", quota)
    world.wait(world.path("v1", "resourcequotas", "few"), lambda one: (one.get("status") or {}).get("hard"), "the quota is enforced")  # fmt: skip
    world.make("apps/v1", "deployments", deployment(world, world.first))
    path = world.path("apps/v1", "deployments", "api")
    failed = world.wait(path, lambda one: told(one, "ReplicaFailure")[0], "a Pod was refused")
    assert told(failed, "ReplicaFailure") == ("True", "FailedCreate")
    assert (
        "is forbidden: exceeded quota: few, requested: pods=1, used: pods=1, limited: pods=1"
        in (conditions_of(failed)["ReplicaFailure"]["message"])
    )
    assert told(failed, "Available") == ("False", "MinimumReplicasUnavailable")


def a_job_that_succeeds_is_complete(world: World) -> None:
    world.make("batch/v1", "jobs", job(world.good_job, "print('done')"))
    path = world.path("batch/v1", "jobs", "migrate")
    done = world.wait(path, lambda one: told(one, "Complete")[0], "the Job has ended")
    assert told(done, "Complete") == ("True", "")
    assert {"succeeded": 1}.items() <= done["status"].items()
    assert {"startTime", "completionTime"} <= done["status"].keys()
    assert not {"active", "failed"} & done["status"].keys()
    (pod,) = world.client.list(world.path("v1", "pods"), labelSelector="job-name=migrate")
    assert pod["status"]["phase"] == "Succeeded"
    assert pod["metadata"]["ownerReferences"][0]["uid"] == done["metadata"]["uid"]
    log = world.path("v1", "pods", pod["metadata"]["name"], "log")
    assert list(world.client.lines(log, seconds=10, follow="true")) == ["done"]


def a_job_that_fails_is_failed_and_not_tried_again(world: World) -> None:
    world.make("batch/v1", "jobs", job(world.bad_job, "print('broken'); raise SystemExit(1)"))
    path = world.path("batch/v1", "jobs", "migrate")
    done = world.wait(path, lambda one: told(one, "Failed")[0], "the Job has ended")
    assert told(done, "Failed") == ("True", "BackoffLimitExceeded")
    assert conditions_of(done)["Failed"]["message"] == "Job has reached the specified backoff limit"
    assert (done["status"]["failed"], "completionTime" in done["status"]) == (1, False)
    (pod,) = world.client.list(world.path("v1", "pods"), labelSelector="job-name=migrate")
    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], ended["exitCode"], ended["reason"]) == ("Failed", 1, "Error")
    log = world.path("v1", "pods", pod["metadata"]["name"], "log")
    assert list(world.client.lines(log, seconds=10)) == ["broken"]
    change = {"spec": {"template": {"spec": {"containers": [{"name": "migrate", "image": world.second}]}}}}
    assert world.ask("PATCH", path, change, "application/strategic-merge-patch+json")[0] == 422


def a_service_leads_to_its_ready_pods(world: World) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "api"},
        "spec": {"selector": {"app": "api"}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
    }
    world.make("v1", "services", service)
    world.make("apps/v1", "deployments", deployment(world, world.first))
    rolled_out(world)
    wanted = {pod["status"]["podIP"] for pod in _pods(world, world.first)}

    def ready(document: Document) -> bool:
        subsets = document.get("subsets") or ()
        return {one["ip"] for each in subsets for one in each.get("addresses") or ()} == wanted

    endpoints = world.wait(world.path("v1", "endpoints", "api"), ready, "both Pods are led to")
    assert endpoints["subsets"][0]["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
    assert {one["targetRef"]["kind"] for one in endpoints["subsets"][0]["addresses"]} == {"Pod"}
    path = world.path(world.slices, "endpointslices")

    def in_slices() -> bool:
        # Another controller writes them.
        found = world.client.list(path, labelSelector="kubernetes.io/service-name=api")
        listed = [one for each in found for one in each["endpoints"] or () if one["conditions"]["ready"]]
        return {one["addresses"][0] for one in listed} == wanted

    wait_until(in_slices, "both Pods are in the one slice", seconds=120)
    (_only,) = world.client.list(path, labelSelector="kubernetes.io/service-name=api")
    world.client.merge(world.path("v1", "services", "api"), {"spec": {"selector": {"app": "nobody"}}})
    world.wait(world.path("v1", "endpoints", "api"), lambda one: not one.get("subsets"), "nothing is led to")
    pod = _pods(world, world.first)[0]["metadata"]["name"]
    assert world.client.get(world.path("v1", "pods", f"{pod}:8080", "proxy/ready"))


CHECKS = (
    a_good_rollout_and_its_way_back_end_available,
    an_image_that_is_not_there_runs_into_the_deadline_and_the_old_pods_stay,
    a_paused_deployment_says_so_and_rolls_nothing,
    a_quota_shows_as_a_replica_failure,
    a_job_that_succeeds_is_complete,
    a_job_that_fails_is_failed_and_not_tried_again,
    a_service_leads_to_its_ready_pods,
)
