"""What tests do with the small Kubernetes API beside what a real one does: faults at a very request, Pods and Jobs that end as scripted, versions that are not served."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from core.errors import PermanentError, TemporaryError
from tasks.kubernetes_answers import MissingError
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import KEPT_SECONDS, find_kind
from tests.fix_kubernetes import NOT_IN_1_20, WRITE, Document, DroppedError, KubernetesApi
from tests.fix_kubernetes_controllers import Controllers
from tests.kubernetes_conformance import World, conditions_of, config_map, deployment, job, rolled_out, told
from tests.waiting import wait_until

MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def client(kubernetes: KubernetesApi) -> Iterator[KubernetesClient]:
    with KubernetesClient.open(None) as opened:
        yield opened


@pytest.fixture
def controllers(kubernetes: KubernetesApi) -> Controllers:
    return kubernetes.run_controllers()


@pytest.fixture
def world(client: KubernetesClient) -> World:
    return World(client, "default", "api:1", "api:2", "api:3", "migrate:1", "migrate:2", "discovery.k8s.io/v1", 10)


def drop(_method: str, _path: str) -> None:
    raise DroppedError


def pods_of(world: World) -> list[Document]:
    return list(world.client.list(world.path("v1", "pods")))


def waiting_of(world: World) -> set[str]:
    statuses = [one for pod in pods_of(world) for one in (pod.get("status") or {}).get("containerStatuses", ())]
    return {(one["state"].get("waiting") or {}).get("reason", "") for one in statuses}


def test_a_write_can_be_lost_before_or_after_it_was_carried_out(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    kubernetes.before(WRITE, "configmaps", drop)
    with pytest.raises(TemporaryError):
        client.create(MAPS, config_map("a"))
    kubernetes.after(WRITE, "configmaps", drop)
    with pytest.raises(TemporaryError):
        client.create(MAPS, config_map("b"))
    with pytest.raises(MissingError):
        client.get(f"{MAPS}/a")
    assert client.get(f"{MAPS}/b")
    assert client.create(MAPS, config_map("a"))
    assert kubernetes.writes() == [("POST", MAPS)] * 3


def test_the_nth_write_alone_is_met_and_neither_reads_nor_dry_runs_count(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    met: list[tuple[str, str]] = []
    kubernetes.before(WRITE, "", lambda method, path: met.append((method, path.partition("?")[0])), skip=1)
    client.create(MAPS, config_map("a"))
    client.create(MAPS, config_map("b"), dry_run=True)
    client.get(f"{MAPS}/a")
    client.merge(f"{MAPS}/a", {"data": {"x": "1"}})
    client.merge(f"{MAPS}/a", {"data": {"x": "2"}})
    assert met == [("PATCH", f"{MAPS}/a")]


@pytest.mark.parametrize(("when", "written"), [("before", False), ("after", True)])
def test_a_process_can_be_killed_right_before_or_after_its_write(
    kubernetes: KubernetesApi, when: str, *, written: bool
) -> None:
    program = (
        "from tasks.kubernetes_client import KubernetesClient\n"
        f"client = KubernetesClient.open(None); print(flush=True); input(); client.create({MAPS!r}, {config_map('a')!r})"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def kill(_method: str, _path: str) -> None:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        raise DroppedError

    getattr(kubernetes, when)(WRITE, "configmaps", kill)
    child.communicate(b"\n", timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert (("v1", "configmaps", "default", "a") in kubernetes.objects) == written


def test_requests_wait_while_they_are_frozen_or_slow(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    kubernetes.freeze("configmaps")
    threading.Timer(0.2, kubernetes.thaw).start()
    begun = time.monotonic()
    client.create(MAPS, config_map("a"))
    assert time.monotonic() - begun > 0.15
    kubernetes.slow("GET", "configmaps", 0.1)
    begun = time.monotonic()
    client.get(f"{MAPS}/a")
    assert time.monotonic() - begun > 0.1


def test_a_cluster_of_1_20_serves_the_older_versions_of_the_same_objects(
    kubernetes: KubernetesApi, client: KubernetesClient
) -> None:
    budget = {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "api"}}
    new = find_kind(client, "PodDisruptionBudget")
    assert new.version == "v1"
    uid = client.create(new.path("default"), budget)["metadata"]["uid"]
    kubernetes.absent |= NOT_IN_1_20
    # What was found is not asked for again within a minute.
    assert find_kind(client, "PodDisruptionBudget") == new
    names = ("CronJob", "HorizontalPodAutoscaler", "PodDisruptionBudget", "EndpointSlice", "Ingress")
    versions = {name: find_kind(client, name, clock=lambda: time.monotonic() + KEPT_SECONDS).version for name in names}
    assert versions == {
        "CronJob": "v1beta1",
        "HorizontalPodAutoscaler": "v2beta2",
        "PodDisruptionBudget": "v1beta1",
        "EndpointSlice": "v1beta1",
        "Ingress": "v1",
    }
    old = find_kind(client, "PodDisruptionBudget")
    there = client.get(old.path("default", "api"))
    assert (there["apiVersion"], there["metadata"]["uid"]) == ("policy/v1beta1", uid)
    with pytest.raises(MissingError):
        client.get(new.path("default", "api"))
    kubernetes.absent |= {"httproutes"}
    with pytest.raises(PermanentError, match="serves neither"):
        find_kind(client, "HTTPRoute")


def test_a_rollout_takes_a_moment(controllers: Controllers, world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first, replicas=3))
    rolled_out(world)
    begun = time.monotonic()
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "api", "image": world.second}]}}}}
    world.client.merge(world.path("apps/v1", "deployments", "api"), patch, strategic=True)
    while {pod["spec"]["containers"][0]["image"] for pod in pods_of(world)} != {world.second}:
        assert time.monotonic() - begun < 5
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("how", "reason", "event"),
    [
        ("pull", "ImagePullBackOff", "Failed"),
        ("crash", "CrashLoopBackOff", "BackOff"),
        ("config", "CreateContainerConfigError", "Failed"),
        ("held", "ContainerCreating", None),
    ],
)
def test_a_marked_image_keeps_its_pods_from_running(
    controllers: Controllers, world: World, how: str, reason: str, event: str | None
) -> None:
    controllers.mark("api:3", how, "cannot connect to the database\n")  # type: ignore[arg-type]
    world.make("apps/v1", "deployments", deployment(world, world.missing, progressDeadlineSeconds=10))
    path = world.path("apps/v1", "deployments", "api")
    world.wait(path, lambda one: told(one, "Progressing") == ("False", "ProgressDeadlineExceeded"), "the deadline")
    assert waiting_of(world) == {reason}
    pod = pods_of(world)[0]["metadata"]["name"]
    assert list(world.client.lines(world.path("v1", "pods", pod, "log"), seconds=5)) == ["cannot connect to the database"]  # fmt: skip
    events = world.client.list(world.path("v1", "events"), fieldSelector=f"involvedObject.name={pod}")
    assert [one["reason"] for one in events] == ([event] if event else [])


def test_pods_that_run_and_are_never_ready_or_have_no_room_hold_a_rollout(
    controllers: Controllers, world: World
) -> None:
    controllers.mark("api:2", "unready")
    controllers.mark("api:3", "unschedulable")
    path = world.path("apps/v1", "deployments", "api")
    world.make("apps/v1", "deployments", deployment(world, world.first, progressDeadlineSeconds=10))
    rolled_out(world)
    for image, phase in ((world.second, "Running"), (world.missing, "Pending")):
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "api", "image": image}]}}}}
        changed = world.client.merge(path, patch, strategic=True)["metadata"]["generation"]
        wait_until(lambda: world.client.get(path)["status"]["observedGeneration"] >= changed, "it is seen")  # noqa: B023
        stuck = world.wait(path, lambda one: told(one, "Progressing")[0] == "False", "the deadline")
        assert told(stuck, "Available")[0] == "True"
        (pod,) = (one for one in pods_of(world) if one["spec"]["containers"][0]["image"] == image)
        assert pod["status"]["phase"] == phase
        assert world.client.get(world.path("v1", "services", "none:80", "proxy/ready")) == {"status": "ok"}
    scheduled = next(one for one in pod["status"]["conditions"] if one["type"] == "PodScheduled")
    assert (scheduled["status"], scheduled["reason"]) == ("False", "Unschedulable")


def test_a_version_that_is_taken_up_again_long_after_the_last_rollout_is_not_late_at_once(
    controllers: Controllers, world: World
) -> None:
    """As DeploymentTimedOut has it (pkg/controller/deployment/util): after a rollout that succeeded the deadline runs from the next one's first progress."""
    world.make("apps/v1", "deployments", deployment(world, world.first))
    path = world.path("apps/v1", "deployments", "api")
    for image in (world.first, world.second):
        spec = {"template": {"spec": {"containers": [{"name": "api", "image": image}]}}}
        world.client.merge(path, {"spec": spec}, strategic=True)
        rolled_out(world)
    # Its last progress is longer ago than the deadline that it has from now on; nothing of the new one begins to run.
    controllers.mark("api:1", "held")
    time.sleep(0.05)
    spec = {"progressDeadlineSeconds": 1, "template": {"spec": {"containers": [{"name": "api", "image": world.first}]}}}
    written = world.client.merge(path, {"spec": spec}, strategic=True)["metadata"]
    watched = world.client.watch(world.path("apps/v1", "deployments"), written["resourceVersion"], seconds=5)
    seen = next(one for one in watched if one["status"]["observedGeneration"] >= written["generation"])
    assert told(seen, "Progressing") == ("True", "NewReplicaSetAvailable")


def test_readiness_can_flap(controllers: Controllers, kubernetes: KubernetesApi, world: World) -> None:
    world.make("apps/v1", "deployments", deployment(world, world.first, replicas=1))
    rolled_out(world)
    version = str(kubernetes.version)
    controllers.mark("api:1", "flaps")
    path = world.path("apps/v1", "deployments")
    seen = {one["status"].get("readyReplicas", 0) for one in world.client.watch(path, version, seconds=1)}
    assert seen == {0, 1}


def test_proxies_answer_as_scripted(kubernetes: KubernetesApi, client: KubernetesClient) -> None:
    def answer(method: str, plural: str, name: str, path: str) -> tuple[int, str]:
        return (200, f'{{"path": "{path}"}}') if (method, plural, name) == ("GET", "pods", "a:8080") else (404, "{}")

    kubernetes.proxy = answer
    assert client.get("/api/v1/namespaces/default/pods/a:8080/proxy/health") == {"path": "/health"}
    with pytest.raises(MissingError):
        client.get("/api/v1/namespaces/default/services/b:80/proxy/ready")


def test_a_job_runs_until_it_is_released_and_its_log_is_followed(controllers: Controllers, world: World) -> None:
    def work(_job: Document, log: Callable[[str], None]) -> bool:
        log("first")
        log("last")
        return True

    controllers.script("migrate:1", work)
    controllers.jobs.hold()
    world.make("batch/v1", "jobs", job(world.good_job))
    path = world.path("batch/v1", "jobs", "migrate")
    world.wait(path, lambda one: (one.get("status") or {}).get("active") == 1, "it runs")
    wait_until(lambda: pods_of(world)[0].get("status"), "its Pod runs")
    pod = pods_of(world)[0]["metadata"]["name"]
    lines = world.client.lines(world.path("v1", "pods", pod, "log"), seconds=10, follow="true")
    assert not conditions_of(world.client.get(path))
    controllers.jobs.release()
    assert list(lines) == ["first", "last"]
    world.wait(path, lambda one: told(one, "Complete")[0] == "True", "it is complete")


def test_a_job_that_lasts_longer_than_its_deadline_fails(controllers: Controllers, world: World) -> None:
    controllers.jobs.hold()
    document = job(world.good_job)
    document["spec"]["activeDeadlineSeconds"] = 5
    world.make("batch/v1", "jobs", document)
    path = world.path("batch/v1", "jobs", "migrate")
    failed = world.wait(path, lambda one: told(one, "Failed")[0], "its deadline passes")
    assert (told(failed, "Failed"), pods_of(world)) == (("True", "DeadlineExceeded"), [])


def test_routes_are_answered_at_their_generation_unless_the_gateway_is_away(
    kubernetes: KubernetesApi, controllers: Controllers, world: World
) -> None:
    route = {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": {"name": "api", "namespace": "default"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": [{"backendRefs": [{"name": "api", "port": 80}]}]},
    }
    world.make("gateway.networking.k8s.io/v1", "httproutes", route)
    path = world.path("gateway.networking.k8s.io/v1", "httproutes", "api")

    def found(document: Document) -> dict[str, tuple[str, str, int]]:
        parents = (document.get("status") or {}).get("parents") or ({"conditions": []},)
        return {one["type"]: (one["status"], one["reason"], one["observedGeneration"]) for one in parents[0]["conditions"]}  # fmt: skip

    missing = {"Accepted": ("True", "Accepted", 1), "ResolvedRefs": ("False", "BackendNotFound", 1)}
    world.wait(path, lambda one: found(one) == missing, "its backend is missed")
    kubernetes.put({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "api", "namespace": "default"}})
    world.wait(path, lambda one: found(one)["ResolvedRefs"] == ("True", "ResolvedRefs", 1), "its backend is found")
    controllers.answer_routes(accepts=None)
    world.client.merge(path, {"spec": {"hostnames": ["a.example"]}})
    time.sleep(0.1)
    assert found(world.client.get(path))["Accepted"] == ("True", "Accepted", 1)
    controllers.answer_routes(accepts=False)
    world.wait(path, lambda one: found(one)["Accepted"] == ("False", "NoMatchingParent", 2), "it is refused")


def test_a_deployment_is_scaled_by_others_and_takes_its_pods_along_when_it_goes(
    kubernetes: KubernetesApi, controllers: Controllers, world: World
) -> None:
    made = world.make("apps/v1", "deployments", deployment(world, world.first))
    rolled_out(world)
    kubernetes.scale("default", "api", 30)
    assert rolled_out(world)["status"]["readyReplicas"] == 30
    (owner,) = {pod["metadata"]["ownerReferences"][0]["kind"] for pod in pods_of(world)}
    assert owner == "ReplicaSet"
    kubernetes.scale("default", "api", 0)
    rolled_out(world)
    assert pods_of(world) == []
    kubernetes.scale("default", "api", 1)
    rolled_out(world)
    world.client.delete(world.path("apps/v1", "deployments", "api"), uid=made["metadata"]["uid"])
    wait_until(lambda: not pods_of(world) and not list(world.client.list(world.path("apps/v1", "replicasets"))), "all is gone")  # fmt: skip
