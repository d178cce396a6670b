"""A release that is killed around its migration: the Job runs on, is waited for, and is never made a second time; the lease is nobody else's meanwhile."""

import os
import signal
import threading
from collections.abc import Iterator

import pytest
from prefect import flow
from prefect.client.schemas.objects import State

from flows.release import go_through
from tasks.environments import load_environment
from tasks.recording import Record, RunRecord
from tasks.release_plans import ReleaseRequest
from tests.fix_kill_proxy import KillProxy
from tests.fix_release_child import crashed_run, kill_at_write, release_in_child, request_of
from tests.fix_release_migration import ADD_COLUMN, DIVIDE, Migrating, applied
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.xdist_group("release-migration")]


class Killed:
    """A release that was killed while the Job of its migration runs; the Job ends when it is told to."""

    def __init__(self, migrating: Migrating) -> None:
        self.migrating, self.go_on = migrating, threading.Event()
        self.request: ReleaseRequest | None = None
        migrating.meanwhile = lambda _attempt: self.go_on.wait(300) and None

    def release(self, **parameters: object) -> None:
        """Begin it in a child, and kill that."""
        self.request = request_of(self.migrating.stage, crashed_run(), "v2", migrate=True, **parameters)
        child = release_in_child(self.migrating.stage, self.request, kubeconfig=os.environ["KUBECONFIG"])
        wait_until(self.migrating.began.is_set, "the Job runs", seconds=60)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)

    def end_job(self) -> None:
        """Let the Job do its work, and wait until it has ended."""
        self.go_on.set()
        stage = self.migrating.stage
        path = f"/apis/batch/v1/namespaces/{stage.namespace}/jobs/{self.migrating.jobs()[0]}"
        wait_until(lambda: stage.client.get(path)["status"].get("conditions"), "the Job has ended")

    def retry(self) -> State[None]:
        """What Prefect's Retry of the run does."""
        assert self.request is not None
        request = self.request

        @flow(name="retried", persist_result=False)
        def retried() -> State[None]:
            run = RunRecord(load_environment("stage"), flow="release", run_id=request.flow_run_id, run_name="again")
            return go_through(run, request, Record(request.release_id), {"dry_run": False})

        return retried(return_state=True)


@pytest.fixture
def killed(migrating: Migrating) -> Iterator[Killed]:
    """What is to be killed."""
    made = Killed(migrating)
    yield made
    made.go_on.set()


def test_while_the_job_runs_a_sweep_waits_the_lease_stays_and_neither_retry_nor_another_release_begins(
    killed: Killed,
) -> None:
    killed.release()
    stage = killed.migrating.stage
    assert killed.request is not None
    release_id = killed.request.release_id
    before, lease = stage.journals(), stage.lease()
    for _ in range(2):
        state = stage.recover()
        assert state.is_completed()
        assert f"{release_id}: its migration still runs" in str(state.message)
    assert stage.reports() == []
    retried = killed.retry()
    assert retried.is_failed()
    assert "its migration still runs" in str(retried.message)
    other = killed.migrating.release("v3")
    assert other.is_failed()
    assert f"{release_id} holds it" in str(other.message)
    assert (stage.lease(), stage.journals(), stage.lease_holder()) == (lease, before, release_id)
    assert len(killed.migrating.jobs()) == 1


@pytest.mark.parametrize(
    ("compatibility", "good", "end"),
    [
        ("backward", True, "old"),
        ("backward", False, "old"),
        ("breaking", True, "new"),
        ("breaking", False, "held"),
    ],
)
def test_when_the_job_has_ended_recovery_goes_the_right_way_without_a_second_job(
    killed: Killed, compatibility: str, good: bool, end: str
) -> None:
    migrating, stage = killed.migrating, killed.migrating.stage
    migrating.statements = {1: (ADD_COLUMN, applied("a_002") if good else DIVIDE)}
    killed.release(schema_compatibility=compatibility)
    assert "its migration still runs" in str(stage.recover().message)
    killed.end_job()
    state = stage.recover()
    if end == "held":
        assert state.is_failed()
        assert "HELD" in str(state.message)
        assert "applied in part" in str(state.message)
        assert stage.image_of() == stage.image("v1")
        assert stage.journals()[0].is_held
        assert stage.recover().is_completed()
    else:
        assert state.is_completed(), state.message
        assert stage.image_of() == stage.image("v1" if end == "old" else "v2")
        assert stage.journals()[0].outcome == ("rolled back" if end == "old" else "released")
        assert not migrating.cron_is_suspended()
    assert stage.lease_holder() == ""
    assert len(migrating.ran) == 1


def test_retry_after_the_job_has_ended_brings_its_own_release_to_its_end_and_says_how(killed: Killed) -> None:
    killed.release()
    killed.end_job()
    state = killed.retry()
    assert state.name == "RolledBack", state.message
    assert killed.migrating.serves_old()
    again = killed.retry()
    assert again.name == "RolledBack"
    assert "ended already: rolled back" in str(again.message)
    assert len(killed.migrating.ran) == 1


def test_a_job_that_was_removed_after_the_kill_is_never_made_again(killed: Killed) -> None:
    killed.release(schema_compatibility="breaking")
    killed.migrating.remove_job()
    killed.go_on.set()
    state = killed.migrating.stage.recover()
    assert state.is_failed()
    assert "a breaking migration is in an unknown state" in str(state.message)
    assert killed.migrating.jobs() == []


def kill_at_the_job(migrating: Migrating, proxy: KillProxy, when: str) -> None:
    """Kill a release with a breaking migration right before or after it makes the Job."""

    def makes_it(method: str, path: str, _body: bytes) -> bool:
        return method == "POST" and "/jobs" in path

    asked = {"migrate": True, "schema_compatibility": "breaking"}
    _, was_killed = kill_at_write(migrating.stage, proxy, 1, when, counts=makes_it, **asked)
    assert was_killed


def test_killed_between_making_the_job_and_noting_it_the_job_is_found_and_not_made_again(
    migrating: Migrating, kill_proxy: KillProxy
) -> None:
    kill_at_the_job(migrating, kill_proxy, "after")
    last = migrating.stage.journals()[-1].entries[-1]
    assert (last.event, last.step) == ("intent", "start the migration, attempt 1")
    wait_until(lambda: len(migrating.ran) == 1, "the Job is run")
    wait_until(
        lambda: "still runs" not in str((state := migrating.stage.recover()).message) and state, "it is recovered"
    )
    assert migrating.stage.journals()[-1].outcome == "released"
    assert len(migrating.ran) == 1
    assert migrating.stage.image_of() == migrating.stage.image("v2")


def test_a_job_that_ran_and_was_removed_before_it_was_noted_is_not_made_again_even_by_a_persons_word(
    migrating: Migrating, kill_proxy: KillProxy
) -> None:
    stage = migrating.stage
    kill_at_the_job(migrating, kill_proxy, "after")
    wait_until(lambda: len(migrating.ran) == 1 and not migrating.running, "the Job is run")
    migrating.remove_job(stage.journals()[-1].release_id)
    assert "HELD" in str(stage.recover().message)
    release_id = stage.journals()[-1].release_id
    state = stage.recover(release_id=release_id, decision="forward", reason="looked at: all of it is there")
    assert state.is_completed(), state.message
    assert stage.image_of() == stage.image("v2")
    assert len(migrating.ran) == 1


def test_killed_right_before_making_the_job_nothing_was_migrated_and_all_goes_back(
    migrating: Migrating, kill_proxy: KillProxy
) -> None:
    kill_at_the_job(migrating, kill_proxy, "before")
    state = migrating.stage.recover()
    assert state.is_completed(), state.message
    assert migrating.serves_old()
    assert migrating.ran == []
