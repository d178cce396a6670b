"""A release that is killed right after any of its writes is brought to one of two ends, and nothing is done twice.

Right before a write the world is as right after the one before it: "after" is the whole matrix (tests/cluster runs both on a real node). Release and recovery run
in forked children without Prefect's engine; every eighth recovery is a flow of its own, which asks a real server what became of the run.
"""

from collections import Counter
from uuid import uuid4

import pytest

from core.migration_job import BARRIER
from tasks.release_left_open import find_left_open
from tests.fix_kill_proxy import KillProxy
from tests.fix_kubernetes import KubernetesApi
from tests.fix_migrated import Migrated
from tests.fix_release import Stage, serving
from tests.fix_release_child import crashed_run, ended, kill_at_write, recovery_in_child

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]

BLUE_GREEN = {
    "strategy": "blue-green",
    "drain_seconds": 0,
    "traffic": {"kind": "service", "name": "hello", "soak_seconds": 0},
}
MOST_WRITES = 90
BY_FLOW = 8


def migrations_of(stage: Stage) -> list[str]:
    """The names of the Jobs that were made to migrate; those that keep a late request from making one are none."""
    found = stage.client.list(f"/apis/batch/v1/namespaces/{stage.namespace}/jobs")
    return [one["metadata"]["name"] for one in found if BARRIER not in one["metadata"]["annotations"]]


def others(stage: Stage) -> set[str]:
    """The images of the worker and the CronJob, which must not be suspended any more."""
    cron = stage.client.get(f"/apis/batch/v1/namespaces/{stage.namespace}/cronjobs/nightly")["spec"]
    assert not cron["suspend"]
    return {
        stage.image_of("worker"),
        cron["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["image"],
    }


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param("rolling", marks=pytest.mark.xdist_group("release-kills-rolling")),
        pytest.param("blue-green", marks=pytest.mark.xdist_group("release-kills-blue-green")),
    ],
)
def test_killed_after_any_write_it_ends_well(  # noqa: PLR0917 - fixtures
    stage: Stage,
    kubernetes: KubernetesApi,
    kill_proxy: KillProxy,
    migrated: Migrated,
    monkeypatch: pytest.MonkeyPatch,
    strategy: str,
) -> None:
    stage.settings["release"] |= BLUE_GREEN if strategy == "blue-green" else {}
    # What is looked at before the first write changes nothing, and would be half of each round's time.
    monkeypatch.setattr("tasks.release_checklist.ITEMS", ())
    asked = {"adopt": True, "migrate": True, "skip_checks": {}}
    begin, ends, written = kubernetes.snapshot(), [], []
    for number in range(1, MOST_WRITES):
        by_flow = number % BY_FLOW == 0
        run_id = crashed_run() if by_flow else str(uuid4())
        _, killed = kill_at_write(stage, kill_proxy, number, "after", run_id=run_id, **asked)
        if not killed:
            break
        written.append(" ".join(kill_proxy.writes[-1]))
        at = f"killed after write {number}, {written[-1]}"
        if by_flow:
            state = stage.recover()
            assert state.is_completed(), f"{at}: {state.message}"
        else:
            with monkeypatch.context() as patched:
                patched.setattr("tasks.release_left_open.state_of_run", lambda _run_id: "CRASHED")
                assert ended(recovery_in_child(stage)), at
        assert not stage.lease_holder(), at
        (journal,) = stage.journals() or [None]
        done = Counter(one.step for one in journal.entries if one.event == "done") if journal else Counter()
        assert not journal or not journal.is_open, at
        assert set(done.values()) <= {1}, f"{at}: done twice: {done}"
        assert find_left_open(stage.client, stage.environment) == (), f"{at}: there is still something to do"
        ends.append(end := serving(stage))
        assert others(stage) == {end}, at
        assert len(migrated.names) == len(migrations_of(stage)) <= 1, at
        assert migrated.names or end == stage.image("v1"), f"{at}: the new version without its migration"
        kubernetes.restore(begin)
        migrated.clear()
    assert {stage.image("v1"), stage.image("v2")} == set(ends)
    assert any("/jobs" in one for one in written)
    assert len(ends) > 20
