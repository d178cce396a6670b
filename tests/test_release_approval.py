"""A release waits for a person: who must see the plan that is carried out, and say so by its hash."""

import re
from typing import Any

import pytest

from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage
from tests.fix_release_run import Run

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-approval")]
ANSWER = {"approver": "Ada", "reason": "INC-7"}


@pytest.fixture
def waiting(stage: Stage) -> Run:
    """A release of v2 that waits for its approval."""
    stage.settings["release"]["approval"] = True
    run = Run(stage, deployed=True)
    state = run.go()
    assert state.is_paused(), state.message
    return run


def plan_in(text: str) -> str:
    """The beginning of the plan's hash, as the form shows it."""
    found = re.search(r"Approve the plan \*\*([0-9a-f]{8})\*\*", text)
    assert found is not None, text
    return found.group(1)


def nothing_changed(stage: Stage, kubernetes: KubernetesApi, begin: int) -> bool:
    return kubernetes.writes()[begin:] == [] and stage.image_of() == stage.image("v1")


def test_a_release_is_carried_out_once_a_person_typed_the_hash_of_its_plan(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run
) -> None:
    text = waiting.shown()
    assert "hello" in text and b"v2".hex() in text
    # Nobody else is kept waiting meanwhile.
    assert stage.lease_holder() == ""
    assert not [path for _, path in kubernetes.writes() if "/leases" in path or "nightshift-r-" in path]
    assert waiting.resume(plan=plan_in(text), **ANSWER) == "ACCEPT"
    state = waiting.go()
    assert state.is_completed(), state.message
    assert stage.image_of() == stage.image_of("worker") == stage.image("v2")
    (approved,) = [one for one in stage.reports()[-1].steps if one.name == "approve"]
    assert approved.facts == {"typed": plan_in(text), **ANSWER}


@pytest.mark.parametrize("answer", [{}, {"plan": "", "approver": "Ada", "reason": "x"}, {"plan": "11111111"}])
def test_an_empty_or_half_empty_form_approves_nothing(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run, answer: dict[str, Any]
) -> None:
    begin = len(kubernetes.writes())
    assert waiting.resume(**answer) == "REJECT"
    assert waiting.state.is_paused()
    assert nothing_changed(stage, kubernetes, begin)


def test_the_hash_of_another_plan_approves_nothing_and_after_three_the_release_ends(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run
) -> None:
    begin = len(kubernetes.writes())
    for attempt in range(3):
        assert waiting.resume(plan="deadbeef", **ANSWER) == "ACCEPT"
        state = waiting.go()
        assert state.is_paused() == (attempt < 2), state.message
        if attempt < 2:
            assert "“deadbeef” was typed" in waiting.shown()
    assert state.is_failed()
    assert "asked 3 times" in str(state.message)
    assert nothing_changed(stage, kubernetes, begin)


@pytest.mark.parametrize(
    ("kind", "name"),
    [("SCHEDULED", "Scheduled"), ("SCHEDULED", "AwaitingRetry"), ("RUNNING", "Running"), ("PENDING", "Pending")],
)
def test_a_state_that_somebody_forces_does_not_pass_an_unanswered_approval(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run, kind: str, name: str
) -> None:
    begin = len(kubernetes.writes())
    assert waiting.force(kind, name) == "ACCEPT"
    state = waiting.go()
    assert not state.is_completed(), state.message
    assert nothing_changed(stage, kubernetes, begin)


def test_an_approval_of_before_a_retry_approves_nothing_after_it(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run
) -> None:
    plan = plan_in(waiting.shown())
    kubernetes.denied = {("patch", "deployments")}
    assert waiting.resume(plan=plan, **ANSWER) == "ACCEPT"
    assert "patch deployments" in str(waiting.go().message)
    kubernetes.denied = set()
    begin = len(kubernetes.writes())
    waiting.retry()
    state = waiting.go()
    assert state.is_paused(), state.message
    assert nothing_changed(stage, kubernetes, begin)


@pytest.mark.parametrize("when", ["while the person reads", "between approval and lease"])
def test_a_world_that_changed_since_it_was_shown_is_planned_and_asked_for_anew(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run, when: str
) -> None:
    plan = plan_in(waiting.shown())

    def somebody(*_: str) -> None:
        container = {"name": "work", "image": stage.image("v7")}
        patch = {"spec": {"template": {"spec": {"containers": [container]}}}}
        kubernetes.merge("apps/v1", "deployments", "shop", "worker", patch, strategic=True)

    if when == "while the person reads":
        somebody()
    else:
        kubernetes.after("POST", "/leases", somebody)
    assert waiting.resume(plan=plan, **ANSWER) == "ACCEPT"
    state = waiting.go()
    if state.is_failed():
        # Its worker was still rolling out when it was looked at.
        assert "workloads" in str(state.message), state.message
        waiting.retry()
        state = waiting.go()
    assert state.is_paused(), state.message
    assert not stage.lease_holder()
    assert stage.image_of() == stage.image("v1")
    assert stage.journals() == []
    text = waiting.shown()
    assert plan_in(text) != plan
    assert b"v7".hex() in text
    assert waiting.resume(plan=plan, **ANSWER) == "ACCEPT"
    assert waiting.go().is_paused()
    assert waiting.resume(plan=plan_in(waiting.shown()), **ANSWER) == "ACCEPT"
    end = waiting.go()
    assert end.is_completed(), end.message
    assert stage.image_of("worker") == stage.image("v2")


@pytest.mark.parametrize("changed", [{"settle_seconds": 1}, {"approval": False}])
def test_settings_that_changed_since_the_plan_was_shown_are_asked_for_anew(
    stage: Stage, kubernetes: KubernetesApi, waiting: Run, changed: dict[str, Any]
) -> None:
    plan, begin = plan_in(waiting.shown()), len(kubernetes.writes())
    stage.settings["release"] |= changed
    stage.write()
    assert waiting.resume(plan=plan, **ANSWER) == "ACCEPT"
    state = waiting.go()
    assert state.is_paused(), state.message
    assert plan_in(waiting.shown()) != plan
    assert nothing_changed(stage, kubernetes, begin)
