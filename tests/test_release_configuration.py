"""What a version takes along and what it does not: ConfigMaps by copies of its own; Secrets never, so that a rollback tells which of them changed."""

import functools

import pytest

from core.rollout_status import standing_trouble
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage
from tests.fix_release_shift import blue_green
from tests.waiting import wait_until

pytestmark = pytest.mark.services
DEPLOYMENT = ("apps/v1", "deployments", "shop", "hello")


def with_config_map(stage: Stage, colour: str) -> None:
    """Have the Pods read a ConfigMap, which goes along with a version."""
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"}, "data": {"colour": colour}}
    stage.client.create(f"/api/v1/namespaces/{stage.namespace}/configmaps", config)
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello"
    (container,) = stage.deployment()["spec"]["template"]["spec"]["containers"]
    reading = [{**container, "envFrom": [{"configMapRef": {"name": "settings"}}]}]
    stage.client.merge(path, {"spec": {"template": {"spec": {"containers": reading}}}})
    stage.settings["release"]["workloads"][0]["config_maps"] = ["settings"]
    # With the controller's word that it has seen the change: until then the numbers are of before, and look well.
    wait_until(lambda: not standing_trouble(stage.deployment()), "it is rolled out")


def config_of(stage: Stage, name: str) -> str:
    """The ConfigMap that a Deployment's Pods read."""
    (container,) = stage.deployment(name)["spec"]["template"]["spec"]["containers"]
    return str(container["envFrom"][0]["configMapRef"]["name"])


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_a_version_takes_its_configuration_along_and_the_one_before_keeps_its_own(
    stage: Stage, kubernetes: KubernetesApi, strategy: str
) -> None:
    with_config_map(stage, "red")
    if strategy == "blue-green":
        blue_green(stage)
    assert stage.release("v2", adopt=True).is_completed()
    first, second = ("hello-blue", "hello-green") if strategy == "blue-green" else ("hello", "hello")
    red = config_of(stage, first)
    assert red.startswith("settings-")
    kubernetes.merge("v1", "configmaps", stage.namespace, "settings", {"data": {"colour": "green"}})
    state = stage.release("v3", COMMIT)
    assert state.is_completed(), state.message
    green = config_of(stage, second)
    assert green not in {red, "settings"}
    read = functools.partial(kubernetes.read, "v1", "configmaps", stage.namespace)
    assert [read(name)["data"]["colour"] for name in (red, green)] == ["red", "green"]
    assert stage.run_rollback("a mistake").is_completed()
    assert config_of(stage, first) == red


def test_configuration_that_changes_after_the_plan_stops_the_release(stage: Stage, kubernetes: KubernetesApi) -> None:
    with_config_map(stage, "red")
    change = {"data": {"colour": "green"}}
    where = ("v1", "configmaps", stage.namespace, "settings")
    kubernetes.before("PATCH", "/cronjobs/", lambda _m, _p: kubernetes.merge(*where, change), skip=1)
    state = stage.release("v2")
    assert (state.name, "ConfigMap settings" in str(state.message)) == ("RolledBack", True), state.message
    assert stage.image_of() == stage.image("v1")


def test_a_rollback_tells_which_secret_changed_since_the_release_was_planned(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    stage.settings["release"]["record_secrets"] = True
    for name in ("changed", "same", "deleted"):
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {"x": "c2VjcmV0"}}
        stage.client.create(f"/api/v1/namespaces/{stage.namespace}/secrets", secret)
    (container,) = stage.deployment()["spec"]["template"]["spec"]["containers"]
    names = ("changed", "same", "deleted", "made")
    reading = [{**container, "envFrom": [{"secretRef": {"name": name, "optional": True}} for name in names]}]
    kubernetes.merge(*DEPLOYMENT, {"spec": {"template": {"spec": {"containers": reading}}}})
    wait_until(lambda: not standing_trouble(stage.deployment()), "it is rolled out")
    state = stage.release("v2")
    assert state.is_completed(), state.message
    (release,) = [one.release_id for one in stage.journals()]
    kubernetes.merge("v1", "secrets", stage.namespace, "changed", {"data": {"x": "b3RoZXI="}})
    kubernetes.delete("v1", "secrets", stage.namespace, "deleted")
    made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "made"}, "data": {}}
    stage.client.create(f"/api/v1/namespaces/{stage.namespace}/secrets", made)
    assert stage.run_rollback("a mistake").is_completed()
    told = [one.text for step in stage.reports()[-1].steps for one in step.findings]
    assert [one for one in told if one.startswith("Secret ")] == [
        f"Secret changed was changed since {release} was planned",
        f"Secret deleted was deleted since {release} was planned",
        f"Secret made was made since {release} was planned",
    ]
