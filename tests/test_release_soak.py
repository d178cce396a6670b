"""What happens to the new Pods while a share of the traffic soaks, without any Prometheus: a restart ends it, and so do too few Pods, or fewer than were asked for."""

from typing import Any

import pytest

from core.rollout_status import standing_trouble
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_gates import PassingTime
from tests.fix_release_shift import add_autoscaler, blue_green, ready, scale, steer
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-soak")]

SOAK = 120
OLD = {"app": "hello"}


@pytest.fixture
def soaking(stage: Stage, passing_time: PassingTime) -> Stage:
    """`stage` in blue-green by the Service's selector, with a soak that passes by waiting alone, and no Prometheus."""
    blue_green(stage, soak_seconds=SOAK)
    return stage


def new_pods(stage: Stage) -> list[Any]:
    """The Pods of the new side."""
    path = f"/api/v1/namespaces/{stage.namespace}/pods"
    return list(stage.client.list(path, labelSelector="nightshift.dev/colour=blue"))


def restart(stage: Stage, api: KubernetesApi) -> None:
    """Have the new side's containers end once, and come back."""
    steer(api).mark(b"v2".hex(), "restarted", "beginning\nno such table: users")
    wait_until(
        lambda: all(one["status"]["containerStatuses"][0]["restartCount"] for one in new_pods(stage)), "restarts"
    )


def become(stage: Stage, api: KubernetesApi, how: Any, count: int) -> None:
    """Have one of the two new Pods be so from now on, and wait until so many are ready."""
    steer(api).mark(min(one["metadata"]["name"] for one in new_pods(stage)), how)
    wait_until(lambda: ready(stage, "hello-blue") == count, f"{count} are ready")


@pytest.mark.parametrize("at", [5, SOAK - 1])
def test_new_pods_that_end_and_come_back_in_the_soak_send_the_traffic_back_with_cause_and_log(
    soaking: Stage, kubernetes: KubernetesApi, passing_time: PassingTime, at: int
) -> None:
    passing_time.after(at, lambda: restart(soaking, kubernetes))
    state = soaking.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    message = str(state.message)
    assert "could not pass the gates at 100 % of the traffic" in message
    assert "Pod hello-blue-" in message
    told = "container hello: it ended with exit code 3, restarted once; the end of its log: beginning | no such table: users"
    assert told in message
    assert soaking.selector() == OLD
    # Not at the end of the soak: as soon as it is seen.
    assert passing_time.passed < at + 10


def test_a_new_pod_that_is_not_ready_for_long_ends_the_soak(
    soaking: Stage, kubernetes: KubernetesApi, passing_time: PassingTime
) -> None:
    passing_time.after(5, lambda: become(soaking, kubernetes, "unready", 1))
    state = soaking.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "1 of 2 updated replicas are available" in str(state.message)
    assert soaking.selector() == OLD
    assert passing_time.passed < SOAK / 2


@pytest.mark.parametrize("at", [20, SOAK - 1])
def test_a_new_pod_that_is_not_ready_for_a_moment_is_waited_for_also_at_the_end_of_the_soak(
    soaking: Stage, kubernetes: KubernetesApi, passing_time: PassingTime, at: int
) -> None:
    passing_time.after(at, lambda: become(soaking, kubernetes, "unready", 1))
    passing_time.after(at + 7, lambda: become(soaking, kubernetes, "good", 2))
    state = soaking.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert passing_time.passed > max(SOAK - 10, at + 6)


def meddle(stage: Stage, api: KubernetesApi, how: str, name: str) -> None:
    """Scale a Deployment of two to one, or pause it, as somebody with kubectl does."""
    if how == "paused":
        api.merge("apps/v1", "deployments", stage.namespace, name, {"spec": {"paused": True}}, manager="somebody")
    else:
        scale(stage, api, name, 1)


THEIRS = {"scaled": "somebody scaled it to 1; the release had 2", "paused": "is paused"}


@pytest.mark.parametrize("how", THEIRS)
def test_a_new_side_that_somebody_scales_down_or_pauses_in_the_soak_stops_the_release(
    soaking: Stage, kubernetes: KubernetesApi, passing_time: PassingTime, how: str
) -> None:
    passing_time.after(20, lambda: meddle(soaking, kubernetes, how, "hello-blue"))
    state = soaking.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert THEIRS[how].replace("is paused", "somebody paused it") in str(state.message)
    assert "hello-blue" in str(state.message)
    assert soaking.selector() == OLD


def test_a_new_side_that_its_autoscaler_makes_larger_in_the_soak_stops_nothing_and_its_size_is_noted(
    soaking: Stage, kubernetes: KubernetesApi, passing_time: PassingTime
) -> None:
    add_autoscaler(soaking, least=2, most=9)

    def grow() -> None:
        scale(soaking, kubernetes, "hello-blue", 5)
        wait_until(lambda: ready(soaking, "hello-blue") == 5, "five are ready")

    passing_time.after(20, grow)
    state = soaking.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert soaking.journals()[-1].facts_of("shift 100 % of the traffic")["replicas"] == 5


@pytest.mark.parametrize("how", THEIRS)
def test_a_rolling_release_whose_deployment_somebody_scales_down_or_pauses_while_it_settles_is_never_called_live(
    stage: Stage, kubernetes: KubernetesApi, how: str
) -> None:
    stage.settings["release"]["settle_seconds"] = 3
    done: list[str] = []

    def rolled_out(_method: str, _path: str) -> None:
        deployment = kubernetes.read("apps/v1", "deployments", stage.namespace, "hello")
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if container["image"] == stage.image("v2") and not standing_trouble(deployment) and not done:
            done.append(how)
            meddle(stage, kubernetes, how, "hello")

    kubernetes.after("GET", "/deployments/hello", rolled_out, times=1000)
    state = stage.release("v2")
    assert done
    assert state.is_failed(), state.message
    assert THEIRS[how] in str(state.message)


@pytest.mark.parametrize("how", THEIRS)
@pytest.mark.parametrize("strategy", ["blue-green", "rolling"])
def test_what_somebody_scales_down_or_pauses_while_the_workers_follow_is_seen_before_the_release_is_closed(
    stage: Stage, kubernetes: KubernetesApi, how: str, strategy: str
) -> None:
    if strategy == "blue-green":
        blue_green(stage)
    name = "hello-blue" if strategy == "blue-green" else "hello"

    def follows(_method: str, _path: str) -> None:
        if stage.image_of("worker") == stage.image("v2"):
            meddle(stage, kubernetes, how, name)

    kubernetes.after("PATCH", "/deployments/worker", follows, times=9)
    state = stage.release("v2", adopt=strategy == "blue-green")
    assert state.is_failed(), state.message
    assert THEIRS[how].replace("is paused", "somebody paused it") in str(state.message)
    assert stage.journals()[-1].outcome != "released"
