"""`nightshift check` and releases: an environment is ready only when its cluster, its workloads and its registry are."""

from collections.abc import Callable

import pytest

from core.checks import Check
from core.environment import Environment
from deployments.command.probe import Probe
from deployments.command.probes import probes_of, run_probes
from deployments.command.release_probes import release_probes
from tests.fix_kubernetes import KubernetesApi
from tests.fix_registry import ImageRegistry
from tests.fix_release import Stage

pytestmark = pytest.mark.xdist_group("prefect")


def rows(environment: Environment) -> dict[str, Check]:
    """The rows that are about releases."""
    return {one.name: one for found in run_probes(release_probes(environment)) for one in found}


def failed(stage: Stage) -> dict[str, str]:
    """What failed, and what was found."""
    return {name: one.found for name, one in rows(stage.environment).items() if one.state == "failed"}


def test_each_part_of_a_ready_environment_has_its_row_and_nothing_is_changed(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    before = kubernetes.writes()
    found = rows(stage.environment)
    assert {one.state for one in found.values()} == {"passed"}, found
    assert set(found) == {
        "release: cluster",
        "release: namespace",
        "release: control_namespace",
        "release: rights",
        "release: deployment/hello",
        "release: deployment/worker",
        "release: cronjob/nightly",
        "release: registry",
    }
    assert "a release takes a digest" in found["release: registry"].found
    assert stage.image("v1") in found["release: deployment/hello"].found
    # Reviews of our own rights are asked by a POST and leave nothing.
    assert [one for one in kubernetes.writes()[len(before) :] if "selfsubject" not in one[1]] == []


@pytest.mark.parametrize(
    ("break_it", "name", "told"),
    [
        (
            lambda stage: stage.settings["release"].update(control_namespace="nowhere"),
            "release: control_namespace",
            "there is no such namespace",
        ),
        (
            lambda stage: stage.settings["release"]["workloads"].append({"name": "ghost", "role": "worker"}),
            "release: deployment/ghost",
            "there is none",
        ),
        (
            lambda stage: stage.settings["release"].update(registry={"address": "http://127.0.0.1:9"}),
            "release: registry",
            "127.0.0.1:9",
        ),
    ],
)
def test_what_is_missing_fails_by_name(stage: Stage, break_it: Callable[[Stage], None], name: str, told: str) -> None:
    break_it(stage)
    found = failed(stage)
    assert list(found) == [name]
    assert told in found[name]


def test_a_right_that_is_lacking_fails_by_name(stage: Stage, kubernetes: KubernetesApi) -> None:
    kubernetes.denied.add(("patch", "deployments"))
    assert "patch deployments.apps in shop" in failed(stage)["release: rights"]


def test_a_cluster_that_is_not_there_fails(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    assert list(failed(stage)) == ["release: cluster"]


def test_a_registry_that_answers_is_told_with_its_address(stage: Stage, image_registry: ImageRegistry) -> None:
    stage.settings["release"]["registry"] = {"address": image_registry.address}
    found = rows(stage.environment)["release: registry"]
    assert found.state == "passed", found
    assert image_registry.address in found.found


def test_an_environment_that_releases_nothing_is_not_asked_for_a_cluster(stage: Stage) -> None:
    environment = stage.environment
    names = [one.name for one in probes_of(environment)]
    assert [one for one in names if one.startswith("release: ")] == ["release: cluster", "release: registry"]
    without: list[Probe] = probes_of(environment.model_copy(update={"release": None}))
    assert not [one.name for one in without if one.name.startswith("release: ")]
