"""Faults of a rollout on the real node, through whole releases: refused before anything is changed, or rolled back with the cause, and the old version serves."""

from typing import Any

import pytest

from tests.fix_lab_stage import build_hello
from tests.fix_release import Stage, serving
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


def is_as_before(stage: Stage) -> bool:
    """Whether the old version has all of the traffic, with Pods that are ready, and the lease is free."""
    wanted, status = stage.deployment()["spec"]["replicas"], stage.deployment()["status"]
    ready = [status.get(name, 0) for name in ("replicas", "readyReplicas", "updatedReplicas")]
    old = stage.image("v1")
    # First of all: while its Pods are still to come, nobody serves.
    return ready == [wanted] * 3 and {stage.image_of(), serving(stage)} == {old} and not stage.lease_holder()


def merge(stage: Stage, **specification: Any) -> None:
    """Change the Deployment as somebody else would."""
    path = f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello"
    written = stage.client.merge(path, {"spec": specification})["metadata"]["generation"]
    wait_until(lambda: stage.deployment()["status"].get("observedGeneration", 0) >= written, "it is observed")


def add_quota(stage: Stage, **hard: str) -> str:
    """Make a ResourceQuota and return its path, once the cluster counts by it."""
    path = f"/api/v1/namespaces/{stage.namespace}/resourcequotas"
    document = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}, "spec": {"hard": hard}}
    stage.client.create(path, document)
    wait_until(lambda: stage.client.get(f"{path}/small").get("status", {}).get("used"), "the quota counts")
    return f"{path}/small"


def test_what_is_paused_or_wants_no_pods_or_has_no_room_is_refused_before_anything_is_changed(
    lab_stage: Stage,
) -> None:
    merge(lab_stage, paused=True)
    paused = lab_stage.release("v2")
    assert (paused.name, 'deployment "hello" is paused' in str(paused.message)) == ("Failed", True), paused.message
    merge(lab_stage, paused=False, replicas=0)
    empty = lab_stage.release("v2")
    assert (empty.name, "wants zero replicas" in str(empty.message)) == ("Failed", True), empty.message
    merge(lab_stage, replicas=2)
    wait_until(lambda: is_as_before(lab_stage), "hello is back", seconds=60)
    # Pods that are on their way out count too.
    pods = f"/api/v1/namespaces/{lab_stage.namespace}/pods"
    wait_until(lambda: len(list(lab_stage.client.list(pods))) == 2, "the Pods of before are gone", seconds=60)
    add_quota(lab_stage, pods="2")
    full = lab_stage.release("v2")
    assert (full.name, "quota small: pods has 0 left of 2" in str(full.message)) == ("Failed", True), full.message
    assert lab_stage.journals() == []
    assert is_as_before(lab_stage)


def test_a_quota_that_the_checklist_does_not_count_is_told_and_rolled_back(
    lab_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.rollout_status.CREATION_GRACE", 2.0)
    add_quota(lab_stage, **{"count/replicasets.apps": "1"})
    state = lab_stage.release("v2")
    assert state.name == "RolledBack", state.message
    assert 'deployment "hello" cannot make its ReplicaSet' in str(state.message), state.message
    assert "exceeded quota: small" in str(state.message), state.message
    assert lab_stage.journals()[-1].outcome == "rolled back"
    assert is_as_before(lab_stage)


def test_an_image_that_is_gone_never_gets_traffic(lab_stage: Stage) -> None:
    lab_stage.settings["release"] |= {
        "strategy": "blue-green",
        "drain_seconds": 0,
        "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
    }
    state = lab_stage.release("gone", adopt=True)
    assert state.name == "RolledBack", state.message
    assert f"its image {lab_stage.image('gone')} cannot be pulled" in str(state.message), state.message
    assert lab_stage.journals()[-1].outcome == "rolled back"
    assert lab_stage.selector() == {"app": "hello"}
    assert lab_stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert is_as_before(lab_stage)


def test_a_version_that_is_ready_and_then_is_not_is_rolled_back(
    lab_stage: Stage, lab_images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(lab_images, "flaps", build_hello("rel-flaps", "CRASH_AFTER=8"))
    merge(lab_stage, replicas=1)
    lab_stage.settings["release"]["settle_seconds"] = 60
    state = lab_stage.release("flaps")
    assert state.name == "RolledBack", state.message
    # On a machine that takes more than its eight seconds to roll out, the end itself is what is seen.
    told = ("readiness flaps: Pod hello-", "it ended with exit code 3")
    assert any(words in str(state.message) for words in told), state.message
    assert lab_stage.journals()[-1].outcome == "rolled back"
    assert is_as_before(lab_stage)
