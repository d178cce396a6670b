"""Blue-green, and somebody changed the side that served before: nobody's version gets the traffic while the new side serves, and no run ends as if all were well."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.metric_gate import Finding, Verdict, verdict_of
from core.old_side import OldSide, Way, accepted_by, told_change, way_of
from core.release_journal import Event, Journal, with_entry
from core.signature import SigningKey
from tasks.recording import utc_now
from tests.fix_kubernetes import KubernetesApi
from tests.fix_release import Stage, serving
from tests.fix_release_shift import Route, blue_green, ready, rolled_out, scaled
from tests.test_release_shift import set_image
from tests.waiting import wait_until

KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")
WAYS = {"go back", "leave it", "hold", "give it all the same"}


@given(
    st.builds(
        OldSide,
        changed=st.sampled_from(["", "somebody else changed the old side hello: it runs v9"]),
        share=st.sampled_from([0, 1, 10, 50, 100]),
        moved=st.booleans(),
        new_serves=st.booleans(),
        old_serves=st.booleans(),
        accepted=st.booleans(),
    )
)
def test_a_side_that_somebody_changed_gets_no_traffic_while_the_new_one_serves(seen: OldSide) -> None:
    way = way_of(seen)
    assert way in get_args(Way) and set(get_args(Way)) == WAYS
    theirs = bool(seen.changed) and not seen.accepted
    assert (way == "go back") == (not theirs), "what the release found, or a person took, is gone back to"
    if theirs and seen.share and seen.new_serves:
        assert way == "hold"
    if way == "give it all the same":
        assert not seen.new_serves and seen.old_serves, "a worse side never gets what a better one has"
    if way == "leave it":
        assert not seen.moved and not seen.share, "only where this release never touched the traffic"


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, ""),
        ({"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "2026-01-01T00:00:00Z"}}}, ""),
        ({"metadata": {"annotations": {"a": "b"}}}, "its Pod template is not what the release found"),
        ({"spec": {"containers": [{"name": "a", "image": "v9"}]}}, "it runs v9"),
        ({"spec": {"containers": [{"name": "a", "image": "v1", "env": [{"name": "A"}]}]}}, "its Pod template"),
    ],
)
def test_what_is_another_version_is_told_and_a_restart_is_none(changed: dict[str, Any], told: str) -> None:
    found = {"metadata": {"creationTimestamp": None}, "spec": {"containers": [{"name": "a", "image": "v1"}]}}
    said = told_change("hello", {**found, **changed}, found)
    assert (told in said) if told else said == ""


TOLD = "somebody else changed the old side hello: it runs v9"


@pytest.mark.parametrize(
    ("written", "accepted"),
    [
        ([("held", {"why": TOLD}), ("decided", {"what": "go back"})], True),
        ([("failed", {"why": f"could not: {TOLD}"}), ("decided", {"what": "go back"})], True),
        ([("held", {"why": TOLD})], False),
        ([("held", {"why": TOLD}), ("decided", {"what": "finish"})], False),
        ([("held", {"why": "a breaking migration"}), ("decided", {"what": "go back"})], False),
        ([("decided", {"what": "go back"}), ("failed", {"why": TOLD})], False),
    ],
)
def test_a_persons_word_counts_once_he_was_told_of_the_change(
    written: list[tuple[Event, dict[str, str | int]]], accepted: bool
) -> None:
    journal = Journal(
        environment="stage", release_id="r-1", plan_id="r-1", plan_sha256="a" * 64, flow_run_id="x"
    )  # fmt: skip
    for event, facts in written:
        journal = with_entry(journal, KEY, at=utc_now(), fence=1, holder="r-1", event=event, facts=facts)
    assert accepted_by(journal) is accepted


# Whole releases


class Killed(BaseException):
    """The end of a process, as far as a test can have it in its own."""


@pytest.fixture
def in_the_soak(stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """v2 has all of the traffic and is well; somebody sets another image on the side of v1, and the release's process is killed."""
    blue_green(stage)

    def killed(*_arguments: object) -> None:
        set_image(kubernetes, stage, "hello", "v9")
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr("tasks.shift_steps._gates", killed)
        with pytest.raises(Killed):
            stage.release("v2", adopt=True)
    assert serving(stage) == stage.image("v2")
    return stage


def is_held_with_the_new_side(stage: Stage, message: object) -> None:
    """Nothing was moved, nobody retired, and it is named."""
    assert f"somebody else changed the old side hello: it runs {stage.image('v9')}" in str(message), message
    assert "hello-blue has 100 % of the traffic and serves" in str(message)
    assert serving(stage) == stage.image("v2")
    assert ready(stage, "hello-blue") == 2
    assert stage.journals()[-1].is_open
    assert stage.lease_holder() == ""


@pytest.mark.services
@pytest.mark.parametrize("decision", ["forward", "back, once it is put back", "back, as it is"])
def test_a_recovery_holds_what_would_go_back_to_a_side_that_somebody_changed(
    in_the_soak: Stage, kubernetes: KubernetesApi, decision: str
) -> None:
    stage = in_the_soak
    state = stage.recover()
    assert state.is_failed(), state.message
    is_held_with_the_new_side(stage, state.message)
    swept = stage.recover()
    is_held_with_the_new_side(stage, swept.message)
    if "put back" in decision:
        set_image(kubernetes, stage, "hello", "v1")
    (journal,) = stage.journals()
    word = decision.partition(",")[0]
    done = stage.recover(release_id=journal.release_id, decision=word, reason="incident 7")
    assert done.is_completed(), done.message
    expected = {"forward": "v2", "back, once it is put back": "v1", "back, as it is": "v9"}[decision]
    assert serving(stage) == stage.image(expected)
    assert stage.journals()[-1].outcome == ("released" if word == "forward" else "rolled back")
    told = [one.text for step in stage.reports()[-1].steps for one in step.findings if one.severity == "warning"]
    assert any("is not the version that the release found" in one for one in told) == (expected == "v9")


@pytest.mark.services
def test_a_failing_release_is_held_where_it_would_go_back_to_a_side_that_somebody_changed(
    stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    blue_green(stage)

    def failing(*_arguments: object) -> Verdict:
        set_image(kubernetes, stage, "hello", "v9")
        return verdict_of(utc_now(), [Finding(gate="errors", state="fail", found="too many errors")])

    monkeypatch.setattr("tasks.shift_steps._gates", failing)
    state = stage.release("v2", adopt=True)
    assert (state.name, "HELD" in str(state.message)) == ("Failed", True), state.message
    is_held_with_the_new_side(stage, state.message)


@pytest.mark.services
def test_a_rollback_to_a_side_that_somebody_changed_is_refused_before_anything_is_written(
    stage: Stage, kubernetes: KubernetesApi
) -> None:
    blue_green(stage)
    assert stage.release("v2", adopt=True).is_completed()
    set_image(kubernetes, stage, "hello", "v9")
    before = len(kubernetes.writes())
    for dry_run in (True, False):
        state = stage.run_rollback("slow", dry_run=dry_run)
        assert state.is_failed(), state.message
        assert f"somebody else changed the old side hello: it runs {stage.image('v9')}" in str(state.message)
        assert "rollout undo deployment/hello" in str(state.message)
    assert not [path for _, path in kubernetes.writes()[before:] if "selfsubject" not in path]
    set_image(kubernetes, stage, "hello", "v1")
    assert stage.run_rollback("slow").is_completed()
    assert serving(stage) == stage.image("v1")


@pytest.mark.services
def test_where_the_new_side_does_not_serve_a_changed_old_one_takes_the_traffic_and_no_run_ends_well(
    stage: Stage, kubernetes: KubernetesApi, route: Route
) -> None:
    assert stage.release("v2", adopt=True).is_completed()
    set_image(kubernetes, stage, "hello", "v9")
    wait_until(lambda: rolled_out(stage, "hello"), "hello is rolled out")
    scaled(stage, kubernetes, "hello-blue", 0)
    state = stage.run_rollback("down")
    assert state.is_failed(), state.message
    assert "hello-blue does not serve, so hello took the traffic all the same" in str(state.message)
    assert route.weights() == {"hello": 100, "hello-blue": 0}
    scaled(stage, kubernetes, "hello-blue", 2)
    for _ in range(2):
        swept = stage.recover()
        assert swept.is_failed(), swept.message
        assert "somebody else changed the old side hello" in str(swept.message)
        assert stage.deployment("hello-blue")["spec"]["replicas"] == 2
    set_image(kubernetes, stage, "hello", "v1")
    swept = stage.recover()
    assert swept.is_completed(), swept.message
    assert stage.journals()[-1].outcome == "rolled back"
    assert stage.deployment("hello-blue")["spec"]["replicas"] == 0


@pytest.mark.services
@pytest.mark.parametrize("killed", [False, True])
def test_what_somebody_changed_before_any_traffic_moved_is_left_and_told(
    stage: Stage, kubernetes: KubernetesApi, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    blue_green(stage)

    def asked(*_arguments: object) -> Verdict:
        set_image(kubernetes, stage, "hello", "v9")
        if killed:
            raise Killed
        return verdict_of(utc_now(), [Finding(gate="health", state="fail", found="it is ill")])

    monkeypatch.setattr("tasks.shift_steps._health", asked)
    if killed:
        with pytest.raises(Killed):
            stage.release("v2", adopt=True)
        state = stage.recover()
        assert (state.name, "is not the version that the release found" in str(state.message)) == ("Failed", True)
    else:
        state = stage.release("v2", adopt=True)
        assert state.name == "RolledBack", state.message
    # Theirs serves, ours is gone, and nothing keeps the next release from beginning.
    assert stage.image_of() == stage.image("v9")
    assert stage.deployment("hello-blue")["spec"]["replicas"] == 0
    assert stage.journals()[-1].outcome == "rolled back"
    assert "no release is open" in str(stage.recover().message)
