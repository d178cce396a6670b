"""Releases on a real node in whose middle somebody else acts: an autoscaler grows the live side, a controller changes the same field, a person edits the journal."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectStore
from tests.cluster.test_release_faults import changes_hello, killed_at_change, one_pod, watches_hello
from tests.fix_api_proxy import Fault
from tests.fix_fault_proxy import FaultProxy
from tests.fix_release import Stage, serving
from tests.fix_release_shift import Route, add_autoscaler, least, make_route, ready

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROLLED = "roll out deployment/hello"


@pytest.fixture
def watched(lab_stage: Stage, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch) -> FaultProxy:
    """The proxy that every flow of the test goes through; the test itself does not."""
    lab_stage.settings["release"] |= {"settle_seconds": 0}
    monkeypatch.setenv("KUBECONFIG", str(fault_proxy.kubeconfig))
    return fault_proxy


@pytest.fixture
def lab_route(lab_controllers: None, lab_stage: Stage, watched: FaultProxy) -> Route:
    """`hello` behind a route whose gateway answers, in blue-green."""
    path = find_kind(lab_stage.client, "HTTPRoute").path(lab_stage.namespace, "hello")
    made = make_route(lab_stage, lambda patch: lab_stage.client.merge(path, patch))
    watched.after(
        lambda method, asked: method == "PATCH" and "/httproutes/hello" in asked,
        lambda: made.note("PATCH", path),
        times=1000,
    )
    return made


def path_of(stage: Stage, name: str = "hello") -> str:
    return find_kind(stage.client, "Deployment").path(stage.namespace, name)


def set_image(stage: Stage, image: str) -> None:
    """As another controller would: by the container's name."""
    containers = [{"name": "hello", "image": image}]
    stage.client.merge(path_of(stage), {"spec": {"template": {"spec": {"containers": containers}}}}, strategic=True)


def test_when_an_autoscaler_grows_the_live_side_during_the_shift_the_new_one_follows_before_it_gets_more(
    lab_stage: Stage, lab_route: Route
) -> None:
    add_autoscaler(lab_stage, least=2, most=9)
    seen: dict[int, tuple[int, int, int]] = {}

    def note(share: int) -> Callable[[], None]:
        def noted() -> None:
            seen[share] = (ready(lab_stage, "hello-blue"), least(lab_stage, "hello"), least(lab_stage, "hello-blue"))

        return noted

    lab_stage.settings["release"]["traffic"]["steps"] = [10, 50, 100]
    for share in (10, 50, 100):
        lab_route.when("hello-blue", share, note(share))
    # There are no metrics on the lab's node: what an autoscaler writes is written by the test.
    grown: dict[str, Any] = {"spec": {"replicas": 5}}
    lab_route.when("hello-blue", 10, lambda: lab_stage.client.merge(f"{path_of(lab_stage)}/scale", grown))
    state = lab_stage.release("v2", adopt=True)
    assert state.is_completed(), state.message
    assert seen == {10: (2, 2, 2), 50: (5, 5, 5), 100: (5, 5, 5)}
    # Kept full, for a way back.
    assert lab_stage.deployment()["spec"]["replicas"] == 5


def test_weights_that_another_controller_writes_in_the_middle_stop_the_shift_and_the_old_version_serves(
    lab_stage: Stage, lab_route: Route
) -> None:
    lab_route.when("hello-blue", 25, lambda: lab_route.write(hello=60, hello_blue=40))
    state = lab_stage.release("v2", adopt=True)
    assert state.name == "RolledBack", state.message
    assert "it is hello 60 %, hello-blue 40 %" in str(state.message)
    assert lab_route.shares("hello-blue") == [0, 10, 25, 0]
    assert lab_route.weights() == {"hello": 100, "hello-blue": 0}
    assert lab_stage.image_of() == lab_stage.image("v1")
    assert (ready(lab_stage, "hello"), lab_stage.lease_holder()) == (2, "")


def test_an_image_that_another_controller_writes_in_the_middle_is_not_overwritten_and_the_old_version_serves(
    lab_stage: Stage, watched: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    theirs = lab_stage.image("unready")
    watched.after(changes_hello, lambda: set_image(lab_stage, theirs), skip=1)
    state = lab_stage.release("v2")
    assert state.is_failed(), state.message
    assert theirs in str(state.message), state.message
    assert lab_stage.image_of() == theirs
    status = lab_stage.deployment()["status"]
    assert status["availableReplicas"] >= 2
    assert lab_stage.image("v1") in served(lab_stage)
    (journal,) = lab_stage.journals()
    assert journal.is_open
    set_image(lab_stage, lab_stage.image("v1"))
    recovered = lab_stage.recover()
    assert recovered.is_completed(), recovered.message
    assert [one.outcome for one in lab_stage.journals()] == ["rolled back"]
    assert lab_stage.image_of() == lab_stage.image("v1")
    assert lab_stage.lease_holder() == ""


def served(stage: Stage) -> set[str]:
    """The images of the Pods that are ready."""
    pods = stage.client.list(f"/api/v1/namespaces/{stage.namespace}/pods")
    return {
        one["spec"]["containers"][0]["image"]
        for one in pods
        if any(each["type"] == "Ready" and each["status"] == "True" for each in one["status"].get("conditions") or ())
    }


def test_the_old_versions_status_right_after_the_write_is_not_taken_for_the_new_ones(
    lab_stage: Stage, watched: FaultProxy
) -> None:
    one_pod(lab_stage)
    before = lab_stage.deployment()["status"]
    ends: list[tuple[bool, int, str]] = []

    def stale() -> None:
        # As read before the controller saw the write: the new specification, and all Pods of the old one available.
        current = {**lab_stage.deployment(), "status": before}
        version = {"resourceVersion": current["metadata"]["resourceVersion"]}
        listed = {"kind": "DeploymentList", "apiVersion": "apps/v1", "metadata": version, "items": [current]}
        watched.fail(lists_hello, Fault(200, json.dumps(listed).encode()))
        watched.fail(watches_hello, Fault(200), times=2)

    def note() -> None:
        if not ends and lab_stage.journals()[-1].is_done(ROLLED):
            found = lab_stage.deployment()
            observed = found["status"]["observedGeneration"] >= found["metadata"]["generation"]
            ends.append((observed, found["status"].get("updatedReplicas", 0), serving(lab_stage)))

    watched.after(changes_hello, stale, skip=1)
    watched.after(lambda method, path: method == "PATCH" and "/configmaps/nightshift-" in path, note, times=1000)
    state = lab_stage.release("v2")
    assert state.is_completed(), state.message
    assert ends == [(True, 1, lab_stage.image("v2"))]
    assert len(watched.failed) == 3, watched.failed


def lists_hello(method: str, path: str) -> bool:
    """Whether a request lists the Deployment by its name."""
    return method == "GET" and "/deployments?" in path and "fieldSelector" in path and "watch=1" not in path


def test_a_journal_that_somebody_edits_while_the_release_runs_is_put_right_and_told(
    lab_stage: Stage, watched: FaultProxy
) -> None:
    one_pod(lab_stage)
    watched.after(changes_hello, lambda: edit_journal(lab_stage), skip=1)
    state = lab_stage.release("v2")
    assert state.is_completed(), state.message
    (journal,) = lab_stage.journals()
    assert journal.outcome == "released"
    told = [found.text for one in lab_stage.reports()[-1].steps for found in one.findings]
    assert "somebody edited the journal; it was put right" in told
    assert serving(lab_stage) == lab_stage.image("v2")


def test_an_edited_journal_of_a_killed_release_is_not_believed_and_without_its_signed_plan_nothing_is_touched(
    lab_stage: Stage, watched: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    release_id = killed_at_change(lab_stage, watched)
    edit_journal(lab_stage)
    store = ObjectStore.open(lab_stage.environment)
    (key,) = [one.key for one in store.list("") if release_id in one.key and "/plan-" in one.key]
    content = store.get(key)
    store.delete([key])
    before = lab_stage.deployment()["spec"]
    refused = lab_stage.recover()
    assert refused.is_failed(), refused.message
    assert release_id in str(refused.message)
    assert "its plan is not in the bucket" in str(refused.message)
    assert "docs/rollback.md" in str(refused.message)
    assert lab_stage.deployment()["spec"] == before
    store.put(key, content)
    recovered = lab_stage.recover()
    assert recovered.is_completed(), recovered.message
    told = [found.text for one in lab_stage.reports()[-1].steps for found in one.findings]
    assert any("going by the signed plan and by what is seen" in one for one in told), told
    assert serving(lab_stage) == lab_stage.image_of() == lab_stage.image("v1")
    assert lab_stage.journals()[-1].outcome == "rolled back"
    assert lab_stage.lease_holder() == ""


def edit_journal(stage: Stage) -> None:
    """Write into the open journal that its last step is done, as `kubectl edit` would."""
    root = f"/api/v1/namespaces/{stage.control}/configmaps"
    (found,) = stage.client.list(root, labelSelector="nightshift.dev/journal=open")
    journal = json.loads(found["data"]["journal.json"])
    journal["entries"].append({**journal["entries"][-1], "number": len(journal["entries"]) + 1, "event": "done"})
    stage.client.merge(f"{root}/{found['metadata']['name']}", {"data": {"journal.json": json.dumps(journal)}})
