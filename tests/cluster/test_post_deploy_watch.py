"""A watch of real Pods: what its first look sees, and a version that begins to crash after its release, which is told and asked to be taken back."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from core.watch_pods import PodsSeen
from tests.fix_prometheus_api import PrometheusApi
from tests.fix_release import Stage
from tests.fix_watch import Day, on_server
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]


@pytest.fixture
def lab_day(lab_stage: Stage, prometheus_api: PrometheusApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Day]:
    """`lab_stage` with a table [watch]; its requests are counted by nobody."""
    lab_stage.settings["watch"] = {"policy": "roll-back", "health": {"databases": False}}
    # What a look misses is said and seen by the next; here each has one look, on a busy machine.
    monkeypatch.setattr("tasks.watch_looks.LOOK_SECONDS", 30.0)
    found = Day(lab_stage, prometheus_api)
    with on_server(found, monkeypatch):
        yield found


def pods_of(stage: Stage) -> list[dict[str, object]]:
    """Name, uid and restarts of the application's Pods but those that end, and what keeps them waiting."""
    found = []
    for pod in stage.client.list(f"/api/v1/namespaces/{stage.namespace}/pods"):
        if "deletionTimestamp" in pod["metadata"]:
            continue
        (status,) = pod["status"].get("containerStatuses") or [{}]
        waiting = ((status.get("state") or {}).get("waiting") or {}).get("reason", "")
        name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
        found.append({"name": name, "uid": uid, "restarts": status.get("restartCount", 0), "waiting": waiting})
    return found


def crash(stage: Stage, times: int) -> None:
    """Have the program of each Pod end by an error, again and again, until it was restarted so many times and is held back."""

    def crashed() -> bool:
        pods = pods_of(stage)
        for pod in pods:
            if not pod["waiting"]:
                end = ["exec", str(pod["name"]), "--", "python3", "-c", "import os; os.kill(1, 2)"]
                # It may end, or hang, with the container that it is carried out in.
                with suppress(subprocess.TimeoutExpired):
                    subprocess.run(
                        ["kubectl", "-n", stage.namespace, *end], capture_output=True, check=False, timeout=30
                    )
        time.sleep(0.5)
        return all(int(str(pod["restarts"])) >= times and pod["waiting"] == "CrashLoopBackOff" for pod in pods)

    wait_until(crashed, f"each Pod was restarted {times} times", seconds=300)


def test_a_version_that_begins_to_crash_after_its_release_is_told_and_taken_back_once(lab_day: Day) -> None:
    stage = lab_day.stage
    state = lab_day.begin()
    assert state.is_completed(), state.message
    assert lab_day.schedules() == [f"watch-{lab_day.release_id}"]

    assert lab_day.tick(0, 10).is_completed()
    pods = {str(one["uid"]) for one in pods_of(stage)}
    newest = [
        one["metadata"]["name"]
        for one in stage.client.list(f"/apis/apps/v1/namespaces/{stage.namespace}/replicasets")
        if one["spec"]["replicas"]
    ]
    first = PodsSeen.model_validate(lab_day.newest.sources["pods"])
    assert list(first.replica_sets) == newest
    assert (first.totals, first.standing, first.events_unread) == ((), (), "")
    assert {one["name"].rpartition("-")[0] for one in pods_of(stage)} == set(newest)  # type: ignore[attr-defined]

    assert lab_day.tick(1).is_completed()
    crash(stage, 3)
    assert {str(one["uid"]) for one in pods_of(stage)} == pods
    state = lab_day.tick(2)
    assert (state.name, state.is_failed()) == ("Degraded", True), state.message
    assert "crash" in str(state.message)
    assert "Its rollback was asked for" in str(state.message)
    (run,) = lab_day.runs_of("rollback")
    assert (run.parameters["release_id"], run.parameters["requested_by"]) == (lab_day.release_id, "post-deploy-watch")
    assert lab_day.tick(3).is_completed()
    assert len(lab_day.runs_of("rollback")) == 1

    given = {name: run.parameters[name] for name in ("reason", "release_id", "requested_by")}
    state = stage.run_rollback(**given)
    assert state.is_completed(), state.message
    assert stage.image_of() == stage.image("v1")
    assert lab_day.tick(4).name == "Degraded"
    assert (lab_day.end.how, lab_day.end.verdict) == ("rolled back", "degraded")
    assert lab_day.schedules() == []
