"""A release whose plan somebody deleted: nothing is touched, it is said what a person does, and that brings it to its end."""

import json
from datetime import timedelta
from uuid import uuid4

import pytest

from core.keys import release_folder
from deployments.command.releases import show
from deployments.command.terminal import console
from tasks.object_store import ObjectStore
from tasks.recording import utc_now
from tasks.release_listing import list_releases
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import COMMIT, Stage
from tests.test_release_recovery import killed_release

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-recovery")]


def forget_bucket(stage: Stage, release_id: str) -> None:
    store = ObjectStore.open(stage.environment)
    store.delete([one.key for one in store.list(release_folder(stage.environment.prefix, release_id))])


def told_by_releases(stage: Stage) -> str:
    """What `nightshift releases stage` prints."""
    found = list_releases(stage.client, stage.environment, 20, utc_now())
    with console.capture() as captured:
        show("stage", found, stage.environment.zone, control_namespace=stage.control)
    return captured.get()


def test_what_a_person_is_told_to_do_ends_it_and_the_next_release_begins(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy
) -> None:
    release_id = killed_release(stage, kill_proxy)
    forget_bucket(stage, release_id)
    assert stage.recover().is_failed()
    told = told_by_releases(stage)
    assert "the sweep brings it to its end" not in told
    delete = f"kubectl -n nightshift delete configmap nightshift-{release_id}"
    free = (
        """kubectl -n nightshift patch lease nightshift-stage --type merge --patch '{"spec":{"holderIdentity":""}}'"""
    )
    assert delete in told and free in told, told
    # As the two commands do.
    kubernetes.delete("v1", "configmaps", "nightshift", f"nightshift-{release_id}")
    lease = ("coordination.k8s.io/v1", "leases", "nightshift", "nightshift-stage")
    kubernetes.merge(*lease, json.loads(free.rpartition("--patch ")[2].strip("'")))
    assert "left in the middle" not in told_by_releases(stage)
    assert stage.release("v3", COMMIT).is_completed()
    assert stage.recover().message == "no release is open"


def test_an_edited_journal_is_shown_with_what_to_do_about_it(stage: Stage, kubernetes: KubernetesApi) -> None:
    assert stage.release("v2").is_completed()
    release_id = stage.journals()[-1].release_id
    name = f"nightshift-{release_id}"
    text = kubernetes.read("v1", "configmaps", "nightshift", name)["data"]["journal.json"]
    kubernetes.merge("v1", "configmaps", "nightshift", name, {"data": {"journal.json": text.replace("hello", "other")}})
    told = told_by_releases(stage)
    assert f"✘ {release_id}: its journal was edited" in told
    assert f"A rollback needs every journal whole: kubectl -n nightshift delete configmap {name}" in told, told
    assert "left in the middle" not in told
    # It ended, by the bucket's word: no sweep takes a live release back.
    assert stage.recover().message == "no release is open"
    kubernetes.merge(
        "v1", "configmaps", "nightshift", name, {"metadata": {"labels": {"nightshift.dev/journal": "open"}}}
    )
    assert "the sweep goes by the signed plan in the bucket" in told_by_releases(stage)


def test_who_is_at_work_is_told_and_a_recovery_that_was_asked_for_it_does_not_end_well(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy
) -> None:
    release_id = killed_release(stage, kill_proxy)
    lease = ("coordination.k8s.io/v1", "leases", "nightshift", "nightshift-stage")
    other = str(uuid4())
    renewed = (utc_now() + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    kubernetes.merge(
        *lease, {"metadata": {"annotations": {"nightshift.dev/run": other}}, "spec": {"renewTime": renewed}}
    )
    told = f"{release_id}: another run is at work on it, which lives: flow run {other}"
    swept = stage.recover()
    assert (swept.name, swept.message) == ("Completed", told)
    asked = stage.recover(release_id=release_id)
    assert (asked.name, asked.message) == ("Failed", told)


def test_a_rollback_beside_an_open_release_says_rollback(stage: Stage, kill_proxy: KillProxy) -> None:
    assert stage.release("v2", "3" * 40).is_completed()
    killed_release(stage, kill_proxy, image="v3")
    back = stage.run_rollback("now")
    assert back.is_failed()
    assert "could not begin the rollback (stage)" in str(back.message), back.message


def test_a_bucket_that_forgot_how_releases_ended_is_told_once(stage: Stage) -> None:
    assert stage.release("v2").is_completed()
    forget_bucket(stage, stage.journals()[-1].release_id)
    told = [str(stage.recover().message) for _ in range(3)]
    assert "ended already" in told[0]
    assert told[1:] == ["no release is open"] * 2, told
