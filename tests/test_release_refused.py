"""Releases that would begin from something that is not well, or that the environment cannot make: refused before anything is changed."""

import pytest

from core.fence import Document
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, NEXT_COMMIT, Stage
from tests.fix_release_shift import blue_green, steer

DEPLOYMENT = ("apps/v1", "deployments", "shop", "hello")
STANDING: dict[str, tuple[Document, str]] = {
    "zero replicas": ({"spec": {"replicas": 0}}, "wants zero replicas"),
    "paused": ({"spec": {"paused": True}}, "is paused"),
}


@pytest.mark.parametrize(
    ("strategy", "name"),
    [
        ("rolling", "zero replicas"),
        ("blue-green", "paused"),
        pytest.param("rolling", "paused", marks=pytest.mark.services),
        pytest.param("blue-green", "zero replicas", marks=pytest.mark.services),
    ],
)
def test_a_live_deployment_that_is_not_well_is_refused_before_anything_is_changed(
    stage: Stage, kubernetes: KubernetesApi, name: str, strategy: str
) -> None:
    if strategy == "blue-green":
        blue_green(stage)
    patch, told = STANDING[name]
    kubernetes.merge(*DEPLOYMENT, patch)
    state = stage.release("v2", adopt=True)
    assert (state.name, told in str(state.message)) == ("Failed", True), state.message
    assert stage.image_of() == stage.image("v1")
    assert stage.journals() == []


@pytest.mark.services
def test_a_deployment_whose_controller_has_not_seen_its_newest_generation_is_refused(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    steer(kubernetes).stop()
    kubernetes.merge(*DEPLOYMENT, {"spec": {"minReadySeconds": 1}})
    state = stage.release("v2")
    assert (state.name, "to be observed" in str(state.message)) == ("Failed", True), state.message
    assert stage.image_of() == stage.image("v1")


@pytest.mark.services
def test_a_quota_that_fits_no_new_pod_is_refused_before_anything_is_changed(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "pods"}, "spec": {"hard": {"pods": "4"}}}
    stage.client.create(f"/api/v1/namespaces/{stage.namespace}/resourcequotas", quota)
    kubernetes.set_status("v1", "resourcequotas", stage.namespace, "pods", hard={"pods": "4"}, used={"pods": "4"})
    state = stage.release("v2")
    assert (state.name, "quota pods: pods has 0 left of 4" in str(state.message)) == ("Failed", True), state.message
    assert stage.image_of() == stage.image("v1")
    assert stage.journals() == []


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_rolling_release_is_refused_where_a_colour_has_the_traffic_which_it_would_not_change(
    stage: Stage, kubernetes: KubernetesApi, version: str
) -> None:
    blue_green(stage)
    plain = kubernetes.read(*DEPLOYMENT)
    labels = {"app": "hello-blue", "nightshift.dev/workload": "hello", "nightshift.dev/colour": "blue"}
    template = {**plain["spec"]["template"], "metadata": {"labels": labels}}
    blue = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "hello-blue", "labels": labels},
        "spec": {"replicas": 2, "selector": {"matchLabels": labels}, "template": template},
    }
    stage.client.create(f"/apis/apps/v1/namespaces/{stage.namespace}/deployments", blue)
    kubernetes.merge("v1", "services", stage.namespace, "hello", {"spec": {"selector": labels}})
    # v1 is what hello, which gets no request, runs already.
    state = stage.release(version, COMMIT if version == "v1" else NEXT_COMMIT, strategy="rolling")
    told = "hello-blue has the traffic, and a rolling release changes hello"
    assert (state.name, told in str(state.message)) == ("Failed", True), state.message
    assert stage.image_of() == stage.image("v1")


def test_blue_green_by_the_form_is_refused_where_the_environment_shifts_no_traffic_or_has_two_apis(
    stage: Stage,
) -> None:
    stage.settings["release"] |= {"workloads": [{"name": "hello"}]}
    none = stage.release("v2", strategy="blue-green")
    assert (none.name, "shifts no traffic" in str(none.message)) == ("Failed", True), none.message
    blue_green(stage)
    stage.settings["release"] |= {"strategy": "rolling", "workloads": [{"name": "hello"}, {"name": "worker"}]}
    two = stage.release("v2", strategy="blue-green", adopt=True)
    told = 'it shifts one Deployment, and hello, worker have role = "api"'
    assert (two.name, told in str(two.message)) == ("Failed", True), two.message
    assert stage.journals() == []


@pytest.mark.services
def test_blue_green_by_the_form_asks_for_the_rights_of_blue_green(stage: Stage, kubernetes: KubernetesApi) -> None:
    blue_green(stage)
    stage.settings["release"]["strategy"] = "rolling"
    kubernetes.denied = {("patch", "deployments/scale")}
    state = stage.release("v2", strategy="blue-green", adopt=True)
    told = "rights: our account may not patch deployments/scale.apps in shop"
    assert (state.name, told in str(state.message)) == ("Failed", True), state.message
    assert stage.journals() == []


@pytest.mark.services
def test_advice_stands_beside_the_item_that_it_is_for(stage: Stage, kubernetes: KubernetesApi) -> None:
    kubernetes.merge(*DEPLOYMENT, {"spec": {"paused": True}})
    message = str(stage.release("v2", skip_checks={}).message)
    assert (
        ". workloads: Mend it first: a release goes from something that is well, and back to it; recovery-point: "
        in message
    )
