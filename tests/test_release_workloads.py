"""Which workloads a release changes, how, and back: workers and CronJobs with the api, the strategy that was chosen, and what somebody else changes meanwhile."""

import pytest

from core.fence import Document
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage
from tests.fix_release_shift import Route, add_autoscaler, blue_green, least, ready, steer

pytestmark = pytest.mark.services
DEPLOYMENT = ("apps/v1", "deployments", "shop", "hello")


def cron_job(stage: Stage) -> Document:
    """The specification of the CronJob."""
    found: Document = stage.client.get(f"/apis/batch/v1/namespaces/{stage.namespace}/cronjobs/nightly")["spec"]
    return found


def cron_image(stage: Stage) -> str:
    """The image of the CronJob."""
    (container,) = cron_job(stage)["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return str(container["image"])


@pytest.mark.parametrize("suspended", [False, True])
def test_cron_jobs_are_suspended_during_a_release_and_are_afterwards_as_they_were(
    stage: Stage, kubernetes: KubernetesApi, suspended: bool
) -> None:
    kubernetes.merge("batch/v1", "cronjobs", stage.namespace, "nightly", {"spec": {"suspend": suspended}})
    seen: list[bool] = []
    kubernetes.before("PATCH", "/deployments/worker", lambda _m, _p: seen.append(cron_job(stage)["suspend"]), times=9)
    assert stage.release("v2").is_completed()
    assert seen[-1]
    assert (cron_job(stage)["suspend"], cron_image(stage)) == (suspended, stage.image("v2"))
    assert stage.run_rollback("a mistake").is_completed()
    assert (cron_job(stage)["suspend"], cron_image(stage)) == (suspended, stage.image("v1"))


@pytest.fixture
def own_worker(stage: Stage) -> str:
    """The worker has an image of its own from the next version on: of this name, v2."""
    stage.settings["release"]["workloads"][1]["repository"] = "registry.test/worker"
    return stage.image("v2").replace("/hello@", "/worker@")


def test_workers_are_rolled_once_the_new_version_has_all_of_the_traffic_and_one_that_fails_returns_all(
    stage: Stage, route: Route, kubernetes: KubernetesApi, own_worker: str
) -> None:
    steer(kubernetes).mark(own_worker, "crash", "no such queue")
    before: list[str] = []
    route.when("hello-blue", 100, lambda: before.append(stage.image_of("worker")))
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "could not roll out (deployment shop/worker)" in str(state.message)
    assert "no such queue" in str(state.message)
    assert before == [stage.image("v1")]
    assert route.shares("hello-blue") == [0, 10, 25, 50, 100, 0]
    assert (stage.image_of("worker"), cron_image(stage)) == (stage.image("v1"), stage.image("v1"))
    assert not cron_job(stage)["suspend"]
    assert (ready(stage, "worker"), stage.deployment("hello-blue")["spec"]["replicas"]) == (2, 0)


def test_a_worker_that_fails_in_place_returns_the_api_too(
    stage: Stage, kubernetes: KubernetesApi, own_worker: str
) -> None:
    steer(kubernetes).mark(own_worker, "crash", "no such queue")
    api: list[str] = []
    kubernetes.after("PATCH", "/deployments/worker", lambda _m, _p: api.append(stage.image_of()), times=9)
    state = stage.release("v2")
    assert state.name == "RolledBack", state.message
    assert "no such queue" in str(state.message)
    assert stage.image("v2") in api
    assert {stage.image_of(), stage.image_of("worker"), cron_image(stage)} == {stage.image("v1")}
    assert (ready(stage, "hello"), ready(stage, "worker"), cron_job(stage)["suspend"]) == (2, 2, False)


def test_an_image_that_somebody_sets_meanwhile_stays_and_all_else_goes_back(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    steer(kubernetes).mark(b"v2".hex(), "held")
    kubernetes.after("PATCH", "/deployments/hello", lambda _m, _p: hotfix(stage, kubernetes), times=9)
    state = stage.release("v2")
    assert (state.name, state.is_failed()) == ("Failed", True)
    assert stage.image("v9") in str(state.message)
    assert stage.image_of() == stage.image("v9")
    assert (stage.image_of("worker"), cron_image(stage)) == (stage.image("v1"), stage.image("v1"))
    assert not cron_job(stage)["suspend"]
    assert stage.journals()[-1].is_open
    hotfix(stage, kubernetes, "v9", "v1")
    assert stage.recover().is_completed()
    assert stage.journals()[-1].outcome == "rolled back"


def hotfix(stage: Stage, api: KubernetesApi, old: str = "v2", new: str = "v9") -> None:
    """As `kubectl set image` by somebody, once it has the other one."""
    (container,) = stage.deployment()["spec"]["template"]["spec"]["containers"]
    if container["image"] == stage.image(old):
        changed = {"spec": {"template": {"spec": {"containers": [{**container, "image": stage.image(new)}]}}}}
        api.merge(*DEPLOYMENT, changed, manager="kubectl-set")


def test_the_form_may_choose_blue_green_where_the_environment_says_rolling(stage: Stage) -> None:
    blue_green(stage)
    stage.settings["release"] |= {"strategy": "rolling", "keep_full_minutes": 0}
    add_autoscaler(stage, least=1, most=9)
    shifted = stage.release("v2", strategy="blue-green", adopt=True)
    assert shifted.is_completed(), shifted.message
    assert stage.selector()["nightshift.dev/colour"] == "blue"
    assert (least(stage, "hello"), least(stage, "hello-blue")) == (2, 2)
    assert "have their own minReplicas again" in str(stage.recover().message)
    assert (least(stage, "hello"), least(stage, "hello-blue")) == (1, 1)
    back = stage.run_rollback("a mistake")
    assert back.is_completed(), back.message
    assert stage.selector() == {"app": "hello"}
    # The colour is there and gets nothing: in place, as the environment says.
    rolled = stage.release("v3", COMMIT)
    assert rolled.is_completed(), rolled.message
    assert (stage.image_of(), stage.selector()) == (stage.image("v3"), {"app": "hello"})


def test_a_rolling_release_where_the_environment_says_blue_green(stage: Stage) -> None:
    blue_green(stage)
    state = stage.release("v2", strategy="rolling")
    assert state.is_completed(), state.message
    assert (stage.image_of(), stage.selector()) == (stage.image("v2"), {"app": "hello"})
    assert stage.run_rollback("a mistake").is_completed()
    assert stage.image_of() == stage.image("v1")
