"""Releases whose new Pods do not come: rolled back with the cause in one sentence, and the old version serves."""

from typing import Any

import pytest

from core.rollout_status import standing_trouble
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_shift import blue_green, ready, steer

pytestmark = pytest.mark.services
DEPLOYMENT = ("apps/v1", "deployments", "shop", "hello")


@pytest.mark.parametrize(
    ("how", "cause"),
    [
        ("pull", "not found"),
        ("crash", "it ended with exit code 1, restarted 2 times; the end of its log: beginning | no such table: users"),
        ("unready", "Readiness probe failed"),
        ("unschedulable", "Insufficient cpu"),
        ("config", 'secret "missing" not found'),
    ],
)
def test_new_pods_that_do_not_come_are_rolled_back_with_the_cause_in_one_sentence(
    stage: Stage, kubernetes: KubernetesApi, how: Any, cause: str
) -> None:
    # Their own graces are for real nodes; what is not final by itself ends by the Deployment's deadline.
    kubernetes.merge(*DEPLOYMENT, {"spec": {"progressDeadlineSeconds": 100}})
    steer(kubernetes).mark(b"v2".hex(), how, "beginning\nno such table: users")
    state = stage.release("v2")
    assert state.name == "RolledBack", state.message
    assert cause in str(state.message)
    assert str(state.message).count("\n") == 0
    assert (stage.image_of(), ready(stage, "hello")) == (stage.image("v1"), 2)
    assert (stage.journals()[-1].outcome, stage.lease_holder()) == ("rolled back", "")


def test_pods_that_are_rolled_out_and_whose_readiness_flaps_then_are_rolled_back(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    stage.settings["release"]["settle_seconds"] = 60

    def flap(_method: str, _path: str) -> None:
        deployment = kubernetes.read(*DEPLOYMENT)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        if container["image"] == stage.image("v2") and not standing_trouble(deployment):
            steer(kubernetes).mark(b"v2".hex(), "flaps")

    kubernetes.after("GET", "/deployments/hello", flap, times=1000)
    state = stage.release("v2")
    assert state.name == "RolledBack", state.message
    # A look at the moment in which all of them are not ready sees that first.
    assert "readiness flaps: Pod hello-" in str(state.message) or "not complete any more" in str(state.message)
    assert (stage.image_of(), ready(stage, "hello")) == (stage.image("v1"), 2)


def test_a_quota_that_comes_during_the_release_is_told_and_rolled_back(
    stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.rollout_status.CREATION_GRACE", 0.2)
    blue_green(stage)
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "late", "namespace": stage.namespace}}
    late = {**quota, "spec": {"hard": {"pods": "5"}}}
    kubernetes.after("POST", "/deployments", lambda _m, path: "dryRun" in path or kubernetes.put(late), times=9)
    state = stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert 'deployment "hello-blue" cannot make its Pods (FailedCreate)' in str(state.message)
    assert "exceeded quota: late" in str(state.message)
    assert stage.selector() == {"app": "hello"}


def test_a_deployment_that_is_paused_while_it_rolls_is_told_and_rolled_back_as_far_as_it_can_be(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    steer(kubernetes).mark(b"v2".hex(), "held")
    kubernetes.after("PATCH", "/deployments/hello", lambda _m, _p: pause_new(stage, kubernetes), times=9)
    state = stage.release("v2")
    assert state.is_failed()
    assert "is paused" in str(state.message)
    assert ready(stage, "hello") == 2
    kubernetes.merge(*DEPLOYMENT, {"spec": {"paused": False}})
    assert stage.journals()[-1].is_open
    assert stage.recover().is_completed()
    assert (stage.journals()[-1].outcome, stage.image_of()) == ("rolled back", stage.image("v1"))


def pause_new(stage: Stage, api: KubernetesApi) -> None:
    """Pause the Deployment once it is to have the new version."""
    if stage.image_of() == stage.image("v2"):
        api.merge(*DEPLOYMENT, {"spec": {"paused": True}}, manager="somebody")


def test_a_rollout_that_exceeds_its_deadline_is_rolled_back_and_the_next_release_goes_out(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    # Four seconds here, which the good one must not take between two Pods.
    kubernetes.merge(*DEPLOYMENT, {"spec": {"progressDeadlineSeconds": 400}})
    steer(kubernetes).mark(b"v2".hex(), "held")
    late = stage.release("v2")
    assert (late.name, "exceeded its progress deadline" in str(late.message)) == ("RolledBack", True), late.message
    assert ready(stage, "hello") == 2
    # A minute is half a second here, in which a busy machine makes no Pod.
    kubernetes.merge(*DEPLOYMENT, {"spec": {"progressDeadlineSeconds": 3000}})
    good = stage.release("v3")
    assert good.is_completed(), good.message
