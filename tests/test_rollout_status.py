"""The verdict on a rollout: kubectl's, but for what kubectl waits for in vain or calls a success that is none."""

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.rollout_status import CREATION_GRACE, Document, remember_stale, rollout_status, written_rollout

OLD, NEW = "registry.example.com/api:1", "registry.example.com/api:2"
TIMED_OUT = ("ProgressDeadlineExceeded", "2026-01-01T02:00:00Z")
QUOTA = 'pods "api-1" is forbidden: exceeded quota: small'


def deployment(*, generation: int = 2, image: str = NEW, replicas: int | None = 3, **changes: Any) -> Document:
    """A Deployment of generation 2, observed and complete, but for the changes: of status by their names, and `paused`, `progressing`, `refused`, `uid`."""
    conditions = []
    if progressing := changes.pop("progressing", None):
        reason, at = progressing
        conditions.append({"type": "Progressing", "reason": reason, "lastUpdateTime": at, "message": "its own words"})
    if refused := changes.pop("refused", ""):
        conditions.append({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": refused})
    metadata = {"name": "api", "uid": changes.pop("uid", "u1"), "generation": generation}
    template = {"metadata": {"labels": {"app": "api"}}, "spec": {"containers": [{"name": "api", "image": image}]}}
    specification = {"template": template, "paused": changes.pop("paused", False)}
    specification |= {} if replicas is None else {"replicas": replicas}
    status = {
        "observedGeneration": 2,
        "replicas": 3,
        "updatedReplicas": 3,
        "availableReplicas": 3,
        "conditions": conditions,
        **changes,
    }
    return {"metadata": metadata, "spec": specification, "status": status}


# As our write was answered: the status is still the old version's.
WRITTEN = written_rollout(deployment(observedGeneration=1), "api", NEW)


def verdict(document: Document | None) -> tuple[str, str]:
    status = rollout_status(document, "api", WRITTEN)
    return status.state, status.sentence


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (deployment(observedGeneration=1), "Waiting for deployment spec update to be observed..."),
        (
            deployment(updatedReplicas=1),
            'Waiting for deployment "api" rollout to finish: 1 out of 3 new replicas have been updated...',
        ),
        (
            deployment(replicas=3, updatedReplicas=3) | {"status": {**deployment()["status"], "replicas": 5}},
            'Waiting for deployment "api" rollout to finish: 2 old replicas are pending termination...',
        ),
        (
            deployment(availableReplicas=2),
            'Waiting for deployment "api" rollout to finish: 2 of 3 updated replicas are available...',
        ),
    ],
)
def test_what_goes_on_is_said_in_kubectls_words(document: Document, sentence: str) -> None:
    assert verdict(document) == ("progressing", sentence)


def test_what_is_complete_is_said_in_kubectls_words() -> None:
    assert verdict(deployment()) == ("complete", 'deployment "api" successfully rolled out')


@pytest.mark.parametrize(
    ("document", "cause", "words"),
    [
        (None, "gone", 'deployment "api" is gone'),
        (deployment(uid="u2"), "gone", "somebody deleted it and made it anew"),
        (
            deployment(generation=3, image=OLD),
            "foreign-change",
            f"its container api has image {OLD}, and we wrote {NEW}",
        ),
        (deployment(paused=True), "paused", "is paused"),
        (deployment(replicas=0), "zero-replicas", "wants zero replicas"),
        (deployment(updatedReplicas=1, progressing=TIMED_OUT), "deadline", 'deployment "api" exceeded its progress deadline'),
        (
            deployment(updatedReplicas=1, progressing=TIMED_OUT, refused=QUOTA),
            "deadline",
            f'deployment "api" exceeded its progress deadline: {QUOTA}',
        ),
        (deployment(updatedReplicas=1, refused=QUOTA), "replica-failure", f"cannot make its Pods (FailedCreate): {QUOTA}"),
        (
            deployment(observedGeneration=1, progressing=("ReplicaSetCreateError", "2026-01-01T02:00:00Z")),
            "replica-set",
            'deployment "api" cannot make its ReplicaSet: its own words',
        ),
    ],
)  # fmt: skip
def test_what_fails_is_said_with_its_cause(document: Document | None, cause: str, words: str) -> None:
    status = rollout_status(document, "api", WRITTEN)
    assert (status.state, status.cause) == ("failed", cause)
    assert words in status.sentence


def test_a_deployment_that_is_being_deleted_is_gone() -> None:
    document = deployment()
    document["metadata"]["deletionTimestamp"] = "2026-01-01T02:00:00Z"
    assert rollout_status(document, "api", WRITTEN).cause == "gone"


def test_refused_pods_are_given_time_and_a_foreign_change_is_not() -> None:
    assert rollout_status(deployment(updatedReplicas=1, refused=QUOTA), "api", WRITTEN).grace == CREATION_GRACE
    assert rollout_status(deployment(image=OLD), "api", WRITTEN).grace == 0.0


def test_refused_pods_of_a_rollout_that_is_complete_do_not_undo_it() -> None:
    assert verdict(deployment(refused=QUOTA))[0] == "complete"


def test_a_pod_template_that_somebody_changed_elsewhere_is_told_by_its_place_and_without_values() -> None:
    document = deployment(generation=3)
    document["spec"]["template"]["metadata"]["annotations"] = {"kubectl.kubernetes.io/restartedAt": "a-secret"}
    status = rollout_status(document, "api", WRITTEN)
    assert status.sentence.endswith("its Pod template differs from ours at metadata.annotations")
    assert status.cause == "foreign-change"


def test_a_container_that_is_gone_is_a_foreign_change() -> None:
    document = deployment(generation=3)
    document["spec"]["template"]["spec"]["containers"] = []
    assert "it has no container api any more" in rollout_status(document, "api", WRITTEN).sentence


def test_more_replicas_as_an_hpa_asks_for_are_no_foreign_change() -> None:
    document = deployment(generation=3, replicas=5, observedGeneration=3)
    assert verdict(document) == (
        "progressing",
        'Waiting for deployment "api" rollout to finish: 3 out of 5 new replicas have been updated...',
    )


def test_a_read_older_than_our_write_says_nothing_even_with_the_old_image() -> None:
    before = deployment(generation=1, image=OLD, observedGeneration=1)
    assert verdict(before) == ("progressing", "Waiting for deployment spec update to be observed...")


def test_a_deadline_that_was_exceeded_before_our_write_is_not_ours() -> None:
    written = written_rollout(deployment(observedGeneration=1, progressing=TIMED_OUT), "api", NEW)
    going_on = deployment(updatedReplicas=1, progressing=TIMED_OUT)
    assert rollout_status(going_on, "api", written).state == "progressing"
    anew = deployment(updatedReplicas=1, progressing=(TIMED_OUT[0], "2026-01-01T02:10:00Z"))
    assert rollout_status(anew, "api", written).cause == "deadline"


def test_a_deadline_that_was_exceeded_after_our_write_but_before_the_controller_saw_it_is_not_ours_either() -> None:
    unseen = deployment(observedGeneration=1, progressing=TIMED_OUT)
    written = remember_stale(WRITTEN, unseen)
    assert rollout_status(unseen, "api", written).state == "progressing"
    assert rollout_status(deployment(updatedReplicas=1, progressing=TIMED_OUT), "api", written).state == "progressing"


def test_a_deadline_that_our_own_generation_exceeded_is_not_forgotten() -> None:
    ours = deployment(updatedReplicas=1, progressing=TIMED_OUT)
    assert rollout_status(ours, "api", remember_stale(WRITTEN, ours)).cause == "deadline"


def test_a_replica_set_that_could_not_be_made_before_and_cannot_now_is_told_though_the_condition_is_old() -> None:
    refused = deployment(observedGeneration=1, progressing=("ReplicaSetCreateError", "2026-01-01T01:00:00Z"))
    written = written_rollout(refused, "api", NEW)
    assert rollout_status(refused, "api", written).cause == "replica-set"
    # Once the controller has seen our write and needs no new ReplicaSet, the old condition is not about it.
    seen = deployment(updatedReplicas=1, progressing=("ReplicaSetCreateError", "2026-01-01T01:00:00Z"))
    assert rollout_status(seen, "api", written).state == "progressing"


counts = st.integers(min_value=0, max_value=4)
generations = st.integers(min_value=1, max_value=4)
conditions = st.none() | st.tuples(
    st.sampled_from(
        ["NewReplicaSetAvailable", "ReplicaSetUpdated", "ReplicaSetCreateError", "ProgressDeadlineExceeded"]
    ),
    st.sampled_from(["2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z"]),
)


@st.composite
def deployments(draw: st.DrawFn) -> Document:
    document = deployment(
        generation=draw(generations),
        image=draw(st.sampled_from([NEW, NEW, OLD])),
        replicas=draw(st.none() | counts),
        uid=draw(st.sampled_from(["u1", "u1", "u2"])),
        paused=draw(st.sampled_from([False, False, True])),
        progressing=draw(conditions),
        refused=draw(st.sampled_from(["", QUOTA])),
        observedGeneration=draw(generations),
    )
    document["status"] |= {key: draw(counts) for key in ("replicas", "updatedReplicas", "availableReplicas")}
    return document


def kubectl_says(document: Document) -> tuple[str, str]:
    """What DeploymentStatusViewer.Status of kubectl answers, line by line."""
    status, replicas = document["status"], document["spec"].get("replicas", 1)
    updated, all_of_them, available = status["updatedReplicas"], status["replicas"], status["availableReplicas"]
    if document["metadata"]["generation"] > status["observedGeneration"]:
        return "progressing", "Waiting for deployment spec update to be observed..."
    if any(one.get("reason") == "ProgressDeadlineExceeded" for one in status["conditions"]):
        return "failed", 'deployment "api" exceeded its progress deadline'
    waiting = 'Waiting for deployment "api" rollout to finish:'
    if updated < replicas:
        return "progressing", f"{waiting} {updated} out of {replicas} new replicas have been updated..."
    if all_of_them > updated:
        return "progressing", f"{waiting} {all_of_them - updated} old replicas are pending termination..."
    if available < updated:
        return "progressing", f"{waiting} {available} of {updated} updated replicas are available..."
    return "complete", 'deployment "api" successfully rolled out'


@given(deployments())
def test_kubectls_verdict_is_ours_wherever_we_have_nothing_to_add(document: Document) -> None:
    status = rollout_status(document, "api", WRITTEN)
    if status.cause not in {"", "deadline"} or document["metadata"]["generation"] < WRITTEN.generation:
        return
    if status.cause == "deadline":
        status_words = status.sentence.removesuffix(f": {QUOTA}")
        assert (status.state, status_words) == kubectl_says(document)
    else:
        assert (status.state, status.sentence) == kubectl_says(document)


@given(deployments())
def test_what_kubectl_calls_complete_fails_here_only_for_what_is_wanted(document: Document) -> None:
    status, told = rollout_status(document, "api", WRITTEN), kubectl_says(document)[0]
    if told == "complete" != status.state and document["metadata"]["generation"] >= WRITTEN.generation:
        assert status.cause in {"gone", "foreign-change", "paused", "zero-replicas", "replica-set"}


@given(
    deployments(), st.none() | st.tuples(st.just(TIMED_OUT[0]), st.sampled_from(["2026-01-01T01:00:00Z", TIMED_OUT[1]]))
)
def test_complete_means_that_all_that_is_wanted_is_there_and_ours(document: Document, before: Any) -> None:
    written = written_rollout(deployment(observedGeneration=1, progressing=before), "api", NEW)
    unchanged = copy.deepcopy(document)
    status = rollout_status(document, "api", remember_stale(written, document))
    assert document == unchanged
    if status.state != "complete":
        return
    metadata, specification, there = document["metadata"], document["spec"], document["status"]
    wanted = specification.get("replicas", 1)
    assert metadata["uid"] == "u1"
    assert there["observedGeneration"] >= metadata["generation"] >= 2
    assert there["replicas"] <= there["updatedReplicas"] <= there["availableReplicas"]
    assert there["updatedReplicas"] >= wanted > 0
    assert specification["template"]["spec"]["containers"][0]["image"] == NEW
    assert not specification["paused"]


@given(deployments())
def test_what_the_status_says_never_hides_a_change_of_what_is_wanted(document: Document) -> None:
    document["metadata"] |= {"uid": "u1", "generation": max(2, document["metadata"]["generation"])}
    status = rollout_status(document, "api", WRITTEN)
    specification = document["spec"]
    foreign = specification["template"]["spec"]["containers"][0]["image"] != NEW
    if foreign or specification["paused"] or specification.get("replicas", 1) == 0:
        assert (status.state, status.cause) == (
            "failed",
            "foreign-change" if foreign else "paused" if specification["paused"] else "zero-replicas",
        )
