"""What happens to the new Pods while a share of the traffic soaks, without any Prometheus: a restart ends it, and so do too few Pods, or fewer than were asked for."""

from typing import Any

import pytest

from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_gates import PassingTime
from tests.fix_release_shift import blue_green, ready, steer
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(120), pytest.mark.xdist_group("release-soak")]

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
