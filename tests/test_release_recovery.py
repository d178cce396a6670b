"""Bringing a release to its end that was left in the middle: once, by journal, plan and world, and never by a guess."""

import itertools
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, get_args
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import StateType
from prefect.states import Running

from core.keys import release_folder
from core.release_journal import Event, Journal, Outcome, with_entry
from core.release_plan import Compatibility, release_id_of
from core.release_recovery import Applied, Liveness, Situation, decide, liveness
from core.signature import SigningKey
from tasks.object_store import ObjectStore
from tasks.release_left_open import find_left_open
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_release import Stage
from tests.fix_release_child import crashed_run, ended, kill_at_write, recovery_in_child
from tests.fix_release_run import Run
from tests.test_release_kills import BLUE_GREEN, serving

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-recovery")]
KEY = SigningKey("hmac-sha256", "a signing key of more than thirty-two characters")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


# The decision, over its whole space


def journal_of(*written: tuple[Event, str], kind: str = "release", outcome: Outcome = "released") -> Journal:
    journal = Journal.model_validate(
        {"environment": "stage", "release_id": "r-1", "kind": kind, "plan_id": "r-1", "plan_sha256": "a" * 64, "flow_run_id": "x"}
    )  # fmt: skip
    for event, step in written:
        facts: dict[str, str | int] = {"outcome": outcome} if event == "closed" else {}
        journal = with_entry(journal, KEY, at=NOW, fence=1, holder="r-1", event=event, step=step, facts=facts)
    return journal


JOURNALS: dict[str, Journal | None] = {
    "none": None,
    "open": journal_of(("opened", ""), ("intent", "one")),
    "going back": journal_of(("opened", ""), ("intent", "one"), ("compensate", "")),
    "held": journal_of(("opened", ""), ("intent", "one"), ("held", "")),
    "decided": journal_of(("opened", ""), ("intent", "one"), ("held", ""), ("decided", "")),
    "held, going back": journal_of(("opened", ""), ("held", ""), ("compensate", "")),
    "rollback": journal_of(("opened", ""), kind="rollback"),
    "closed": journal_of(("opened", ""), ("closed", "")),
}
SPACE = list(
    itertools.product(
        JOURNALS,
        get_args(Compatibility),
        get_args(Liveness),
        (False, True),
        get_args(Applied),
        (False, True),
        (False, True),
        ("", "somebody else changed the old side"),
    )
)


@pytest.mark.parametrize("name", JOURNALS)
def test_what_is_decided_holds_in_every_situation(name: str) -> None:
    for _, compatibility, holder, job, applied, all_new, failed, theirs in (one for one in SPACE if one[0] == name):
        journal = JOURNALS[name]
        situation = Situation(holder, job=job, applied=applied, all_new=all_new, failed=failed, theirs=theirs)
        found = decide(journal, compatibility, situation)
        at = f"{name}, {compatibility}, {situation}: {found}"
        breaking = compatibility == "breaking" and applied in {"yes", "partly", "unknown"}
        goes_back = journal is not None and journal.goes_back
        if name == "closed" or holder == "living":
            wanted = "nothing"
        elif job:
            wanted = "wait"
        elif goes_back:
            wanted = "go back"
        elif name == "held" and not failed:
            wanted = "hold"
        elif breaking:
            wanted = "finish" if applied == "yes" and not failed else "hold"
        else:
            wanted = "finish" if journal is not None and all_new and not failed else "hold" if theirs else "go back"
        assert found.what == wanted, at
        # What must never be, whatever the rules say.
        assert found.what != "finish" or not (goes_back or failed), at
        assert found.what != "finish" or journal is not None or applied == "yes", at
        assert not (found.what == "go back" and (breaking or theirs) and not goes_back), at
        assert not (job and found.what not in {"wait", "nothing"}), at


@pytest.mark.parametrize("state", [None, *(one.value for one in StateType)])
@pytest.mark.parametrize("age", [0.0, 29.9, 30.0, 30.1, float("inf")])
def test_a_run_lives_that_did_not_end_and_renews(state: str | None, age: float) -> None:
    found = liveness(state, age, 30)
    if state in {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}:
        assert found == "ended"
    else:
        assert found == ("living" if age <= 30 else "unknown")


# The plan


def killed_release(stage: Stage, proxy: KillProxy, number: int = 9, **more: Any) -> str:
    """A release that was killed in the middle; its id."""
    run_id, killed = kill_at_write(stage, proxy, number, "after", run_id=crashed_run(), **more)
    assert killed
    return release_id_of(run_id)


@pytest.mark.parametrize("how", ["gone", "gone with its journal", "gone, the journal edited", "forged", "cut off"])
def test_without_the_signed_plan_nothing_is_touched_and_it_says_what_to_do(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, how: str
) -> None:
    release_id = killed_release(stage, kill_proxy)
    store = ObjectStore.open(stage.environment)
    (key,) = [one.key for one in store.list(release_folder(stage.environment.prefix, release_id)) if "/plan-" in one.key]  # fmt: skip
    content = store.get(key)
    store.delete([key])
    if how == "forged":
        store.put(key, content.replace(stage.image("v1").encode(), stage.image("v9").encode()))
    if how == "cut off":
        store.put(key, content[:-10])
    journal = ("v1", "configmaps", stage.control, f"nightshift-{release_id}")
    if how == "gone with its journal":
        kubernetes.delete(*journal)
    if how == "gone, the journal edited":
        kubernetes.merge(*journal, {"data": {"journal.json": "{}"}})
    before = kubernetes.snapshot()
    state = stage.recover()
    assert state.is_failed(), state.message
    told = str(state.message)
    assert "plan" in told and release_id in told
    if how.startswith("gone"):
        assert "is not in the bucket" in told and "docs/rollback.md" in told
    assert kubernetes.snapshot() == before
    # Once it is there again, all is well.
    store.delete([key])
    store.put(key, content)
    state = stage.recover()
    assert state.is_completed(), state.message
    assert serving(stage) == stage.image("v1")


# Killed again, and two at once


@pytest.fixture
def dead_by_word(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Prefect knows every run to have crashed."""
    monkeypatch.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
    return


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
def test_a_recovery_that_is_killed_in_the_middle_is_ended_by_the_next_and_nothing_is_done_twice(  # noqa: PLR0917 - fixtures
    stage: Stage,
    kubernetes: KubernetesApi,
    kill_proxy: KillProxy,
    migrated: Migrated,
    dead_by_word: None,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())
    stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    asked: dict[str, Any] = {"adopt": True, "migrate": True, "skip_checks": {}}
    _, killed = kill_at_write(stage, kill_proxy, 19 if strategy == "rolling" else 22, "after", run_id=str(uuid4()), **asked)  # fmt: skip
    assert killed
    begin, rounds = kubernetes.snapshot(), 0
    for number in range(1, 60, 2):
        kill_proxy.arm(number, "after", 0)
        child = recovery_in_child(stage, kubeconfig=str(kill_proxy.kubeconfig))
        kill_proxy.process = child
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0
            break
        rounds += 1
        at = f"killed after write {number}, {' '.join(kill_proxy.writes[-1])}"
        assert ended(recovery_in_child(stage)), at
        (journal,) = stage.journals()
        done = [one.step for one in journal.entries if one.event == "done"]
        assert len(done) == len(set(done)), f"{at}: {done}"
        assert [one.event for one in journal.entries].count("compensate") == 1, at
        assert journal.outcome == "rolled back", at
        assert serving(stage) == stage.image_of("worker") == stage.image("v1"), at
        assert migrated.names == ("add_orders",), at
        assert not stage.lease_holder(), at
        assert find_left_open(stage.client, stage.environment) == (), at
        kubernetes.restore(begin)
    assert rounds > 3


def test_of_two_recoveries_at_once_one_does_it_and_the_other_lets_it(
    stage: Stage, kubernetes: KubernetesApi, kill_proxy: KillProxy, dead_by_word: None
) -> None:
    killed_release(stage, kill_proxy)
    written: list[str] = []
    kubernetes.after("PATCH", "/deployments/hello", lambda _method, path: written.append(path), times=99)
    children = [recovery_in_child(stage) for _ in range(2)]
    # One may end with HeldError, which the flow tells as "another recovery is at it".
    assert True in [ended(child) for child in children]
    (journal,) = stage.journals()
    done = [one.step for one in journal.entries if one.event == "done"]
    assert len(done) == len(set(done))
    assert journal.outcome == "rolled back"
    # A stamp of each that had the lease, and one change; what was refused since the other had written meanwhile is none.
    assert len([path for path in written if path.partition("?")[0].endswith("/deployments/hello")]) <= 3
    assert serving(stage) == stage.image_of("worker") == stage.image("v1")
    assert not stage.lease_holder()


# Retry


@pytest.mark.parametrize(("image", "outcome"), [("v2", "released"), ("bad", "rolled back")])
def test_retry_of_a_release_that_ended_changes_nothing_and_says_how_it_ended(
    stage: Stage, kubernetes: KubernetesApi, image: str, outcome: str
) -> None:
    stage.write()
    run = Run(stage, image)
    first = run.go()
    assert first.is_completed() == (outcome == "released"), first.message
    run.retry()
    before = kubernetes.snapshot()
    again = run.go()
    assert f"ended already: {outcome}; nothing was done again" in str(again.message)
    assert kubernetes.snapshot() == before
    # Nor when its journal was tidied away: the bucket keeps its end.
    kubernetes.delete("v1", "configmaps", "nightshift", f"nightshift-{run.release_id}")
    run.retry()
    assert f"ended already: {outcome}" in str(run.go().message)


def test_retry_of_a_release_that_was_killed_brings_it_to_its_end(stage: Stage, kill_proxy: KillProxy) -> None:
    stage.write()
    run = Run(stage, state=Running())
    _, killed = kill_at_write(stage, kill_proxy, 9, "after", run_id=str(run.id))
    assert killed
    run.retry()
    state = run.go()
    assert state.name == "RolledBack", state.message
    assert "brought back to the old version" in str(state.message) and run.release_id in str(state.message)
    assert serving(stage) == stage.image_of("worker") == stage.image("v1")
    (journal,) = stage.journals()
    assert journal.outcome == "rolled back"
    assert not stage.lease_holder()
    run.retry()
    assert "nothing was done again" in str(run.go().message)
