"""Releases on a real node whose account lacks a right, and whose process was stopped and woken again."""

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from tests.cluster.test_rbac import make_account
from tests.fix_cluster import Removals
from tests.fix_kill_proxy import KillProxy
from tests.fix_release import COMMIT, Stage, serving
from tests.fix_release_child import end_of, ended, kill_at_write, release_in_child, request_of, send_to_sleep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
ROLES = "/apis/rbac.authorization.k8s.io/v1/namespaces"


def test_the_account_of_the_roles_releases_and_without_a_right_the_release_names_it_and_changes_nothing(
    lab_stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Removals(lab_stage.client) as removals:
        kubeconfig = make_account(removals, lab_stage.namespace, lab_stage.control, tmp_path)
        monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
        released = lab_stage.release("v2")
        assert released.is_completed(), released.message
        without_right(lab_stage, "deployments", "patch")
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
    child = send_to_sleep(lab_stage, kill_proxy, change_of(lab_stage, kill_proxy), request)
    try:
        assert kill_proxy.stopped.is_set()
        assert kill_proxy.writes[-1][1].partition("?")[0].endswith("/deployments/hello")
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


def change_of(stage: Stage, proxy: KillProxy) -> int:
    """Which write of a release changes the Deployment: the second one to it, after the stamp."""
    proxy.arm(0, "before", 0)
    request = request_of(stage, str(uuid4()), "v2")
    assert ended(release_in_child(stage, request, kubeconfig=str(proxy.kubeconfig)))
    assert stage.run_rollback("for the next round").is_completed()
    numbers = [
        number
        for number, (method, path) in enumerate(proxy.writes, start=1)
        if method == "PATCH" and path.partition("?")[0].endswith("/deployments/hello")
    ]
    return numbers[1]


def test_a_killed_release_whose_journal_and_lease_somebody_deleted_is_brought_back_by_its_stamps(
    lab_stage: Stage, kill_proxy: KillProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    lab_stage.settings["release"] |= {"settle_seconds": 0}
    number = change_of(lab_stage, kill_proxy)
    _, killed = kill_at_write(lab_stage, kill_proxy, number, "after")
    assert killed
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
