"""Releases on a real node whose account lacks a right, whose process was stopped and woken again, and whose API server answers with errors in the middle."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from core.access_right import AccessRight
from tasks.access_review import lacking_rights
from tasks.kubernetes_client import KubernetesClient
from tests.cluster.test_rbac import make_account
from tests.fix_api_proxy import Fault, is_write, status
from tests.fix_cluster import Removals
from tests.fix_fault_proxy import FaultProxy
from tests.fix_kill_proxy import KillProxy
from tests.fix_release import COMMIT, Stage, serving
from tests.fix_release_child import crashed_run, end_of, ended, release_in_child, request_of, send_to_sleep
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces"


def changes_hello(method: str, path: str) -> bool:
    """Whether a request changes the Deployment; the first of a release is its stamp."""
    return method == "PATCH" and is_write(method, path) and path.partition("?")[0].endswith("/deployments/hello")


def watches_hello(method: str, path: str) -> bool:
    """Whether a request is a watch of the Deployment."""
    return method == "GET" and "/deployments?" in path and "watch=1" in path


def test_the_account_of_the_roles_releases_and_without_a_right_the_release_names_it_and_changes_nothing(
    lab_stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Removals(lab_stage.client) as removals:
        kubeconfig = make_account(removals, lab_stage.namespace, lab_stage.control, tmp_path)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        released = lab_stage.release("v2")
        assert released.is_completed(), released.message
        without_right(lab_stage, "deployments", "patch")
        right = AccessRight("patch", "deployments", "apps", lab_stage.namespace)
        with KubernetesClient.open(None) as client:
            wait_until(lambda: lacking_rights(client, [right]), "the API server knows that the right is gone")
        before = lab_stage.deployment()["spec"]
        refused = lab_stage.release("v1", COMMIT)
        assert refused.is_failed()
        assert f"patch deployments.apps in {lab_stage.namespace}" in str(refused.message), refused.message
        assert lab_stage.deployment()["spec"] == before
        assert len(lab_stage.journals()) == 1
        assert lab_stage.lease_holder() == ""


def without_right(stage: Stage, resource: str, verb: str) -> None:
    """Take a right from the roles in the workloads' namespace."""
    for role in stage.client.list(f"{ROLES}/{stage.namespace}/roles"):
        rules: list[dict[str, Any]] = [
            {**one, "verbs": [each for each in one["verbs"] if resource not in one["resources"] or each != verb]}
            for one in role["rules"]
        ]
        if rules != role["rules"]:
            kept = [one for one in rules if one["verbs"]]
            stage.client.merge(f"{ROLES}/{stage.namespace}/roles/{role['metadata']['name']}", {"rules": kept})


def test_a_holder_that_was_stopped_and_is_woken_after_a_recovery_changes_nothing(
    lab_stage: Stage, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    # The heartbeat of a stopped run stays away, and Prefect takes it for dead.
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    lab_stage.settings["release"] |= {"settle_seconds": 0}
    request = request_of(lab_stage, str(uuid4()), "v2")
    child = send_to_sleep(lab_stage, kill_proxy, 1, request, counts=writes_image)
    try:
        assert kill_proxy.stopped.is_set()
        recovered = lab_stage.recover()
        assert recovered.is_completed(), recovered.message
        spec, annotations, journals = seen(lab_stage)
    finally:
        kill_proxy.wake()
    assert ended(child)
    assert end_of(lab_stage, request).startswith("FencedError"), end_of(lab_stage, request)
    assert seen(lab_stage) == (spec, annotations, journals)
    assert serving(lab_stage) == lab_stage.image("v1")
    assert lab_stage.lease_holder() == ""


def seen(stage: Stage) -> tuple[Any, Any, Any]:
    """What a release writes."""
    found = stage.deployment()
    return found["spec"], found["metadata"]["annotations"], stage.journals()


def writes_image(method: str, path: str, body: bytes) -> bool:
    """Whether a request gives the Deployment an image. How many stamps come before it hangs on its controller, whose status may come between."""
    return changes_hello(method, path) and b'"image"' in body


def killed_at_change(stage: Stage, proxy: FaultProxy) -> str:
    """Release in a child that is killed right after its change of the Deployment; return the release's id."""
    alive: list[int] = []
    stage.write()

    def kill() -> None:
        # Stamps come before it: two of them where the controller's own write came between.
        if alive and stage.image_of() == stage.image("v2"):
            # Once: a recovery's writes come by here, too, and the number may be another process' by then.
            os.kill(alive.pop(), signal.SIGKILL)

    proxy.after(changes_hello, kill, times=8)
    request = request_of(stage, crashed_run(), "v2")
    child = release_in_child(stage, request, kubeconfig=str(proxy.kubeconfig))
    alive.append(child)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return request.release_id


def test_a_killed_release_whose_journal_and_lease_somebody_deleted_is_brought_back_by_its_stamps(
    lab_stage: Stage, fault_proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    lab_stage.settings["release"] |= {"settle_seconds": 0}
    killed_at_change(lab_stage, fault_proxy)
    assert lab_stage.image_of() == lab_stage.image("v2")
    (journal,) = [one for one in lab_stage.journals() if one.is_open]
    places = (
        f"/api/v1/namespaces/{lab_stage.control}/configmaps/nightshift-{journal.release_id}",
        f"/apis/coordination.k8s.io/v1/namespaces/{lab_stage.control}/leases/nightshift-stage",
    )
    for path in places:
        lab_stage.client.delete(path, uid=lab_stage.client.get(path)["metadata"]["uid"])
    recovered = lab_stage.recover()
    assert recovered.is_completed(), recovered.message
    assert journal.release_id in str(recovered.message)
    assert serving(lab_stage) == lab_stage.image_of() == lab_stage.image("v1")
    assert all(not one.is_open for one in lab_stage.journals())
    assert lab_stage.lease_holder() == ""


def one_pod(stage: Stage) -> None:
    """Let the Deployment have one Pod: a rollout takes half of the time."""
    stage.client.merge(f"/apis/apps/v1/namespaces/{stage.namespace}/deployments/hello/scale", {"spec": {"replicas": 1}})
    wait_until(lambda: stage.deployment()["status"]["replicas"] == 1, "one Pod is left")


def expire(proxy: FaultProxy) -> None:
    """401 from the change of the Deployment on, until who asks reads its token anew."""
    proxy.after(changes_hello, proxy.renew_token, skip=1)


def conflict(proxy: FaultProxy) -> None:
    """409 once at the change of the Deployment, at the lease's and at the journal's."""
    fault = Fault(409, status(409, "the object has been modified"))
    proxy.fail(changes_hello, fault, skip=1)
    for part in ("/leases/", "/configmaps/"):
        proxy.fail(lambda method, path, part=part: method == "PATCH" and part in path, fault)  # type: ignore[misc]


def expire_version(proxy: FaultProxy) -> None:
    """410 in the first watch of the Deployment, as the API server tells it."""
    event = {"type": "ERROR", "object": json.loads(status(410, "too old resource version"))}
    proxy.fail(watches_hello, Fault(200, json.dumps(event).encode() + b"\n"))


def busy(proxy: FaultProxy) -> None:
    """429 once at the change of the Deployment and once at a read of it."""
    fault = Fault(429, status(429, "too many requests"), {"Retry-After": "1"})
    proxy.fail(changes_hello, fault, skip=1)
    proxy.fail(lambda method, path: method == "GET" and "/deployments?" in path, fault)


def lose(proxy: FaultProxy) -> None:
    """Every write is carried out, and its answer lost, the first time that its like is asked for."""
    seen: set[tuple[str, str]] = set()

    def first(method: str, path: str) -> bool:
        key = (method, path.partition("?")[0])
        is_first = is_write(method, path) and key not in seen
        return is_first and not seen.add(key)

    proxy.fail(first, Fault(after=True), times=1000)
    proxy.fail(changes_hello, Fault(after=True))


@pytest.mark.parametrize(
    ("script", "least"),
    [(expire, 0), (conflict, 3), (expire_version, 1), (busy, 2), (lose, 4)],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_an_api_server_answers_in_the_middle_is_waited_out_and_nothing_is_done_twice(
    lab_stage: Stage,
    fault_proxy: FaultProxy,
    monkeypatch: pytest.MonkeyPatch,
    script: Callable[[FaultProxy], None],
    least: int,
) -> None:
    one_pod(lab_stage)
    script(fault_proxy)
    lab_stage.settings["release"] |= {"settle_seconds": 0}
    monkeypatch.setenv("KUBECONFIG", str(fault_proxy.kubeconfig))
    state = lab_stage.release("v2")
    assert state.is_completed(), state.message
    assert len(fault_proxy.failed) >= least, fault_proxy.failed
    assert (fault_proxy.refused > 0) == (script is expire)
    assert serving(lab_stage) == lab_stage.image_of() == lab_stage.image("v2")
    # Its Pod template was changed once.
    assert lab_stage.deployment()["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    (journal,) = lab_stage.journals()
    assert journal.outcome == "released"
    done = [one.step for one in journal.entries if one.event == "done"]
    assert len(done) == len(set(done)) == 3
    assert [one.number for one in journal.entries] == list(range(1, len(journal.entries) + 1))
    assert lab_stage.lease_holder() == ""
