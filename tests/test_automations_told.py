"""What the automations tell, and when, tried on a Prefect server of the test's own: a webhook block posts to a receiver on loopback."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

from deployments.command.automations import AUTOMATIONS, ensure_automations
from deployments.command.notification_block import named_block
from tests.fix_restarting_prefect import RestartingPrefect
from tests.fix_web_script import WebScript
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(600), pytest.mark.xdist_group("told")]
# Events and actions go through queues of the server's, on a busy machine.
PATIENCE = 60.0


class Told:
    """A server with the automations of a folder, whose block tells a receiver."""

    def __init__(self, server: RestartingPrefect, receiver: WebScript) -> None:
        self.server, self.receiver = server, receiver
        receiver.always({})
        self._settings = {PREFECT_API_URL: server.prefect.api_url, PREFECT_API_AUTH_STRING: server.prefect.auth_string}
        with temporary_settings(self._settings):
            CustomWebhookNotificationBlock(
                name="oncall", url=f"{receiver.address}/told", json_data={"subject": "{{subject}}", "body": "{{body}}"}
            ).save("oncall")

    def put(self, folder: Path = AUTOMATIONS) -> None:
        """Put a folder's automations there."""
        prefect = self.server.prefect
        with SyncPrefectClient(
            prefect.api_url, auth_string=prefect.auth_string, httpx_settings={"trust_env": False}
        ) as client:
            ensure_automations(client, folder, named_block(client, "custom-webhook/oncall").id)

    def deploy(self, flow: str, environment: str = "production") -> str:
        """The id of a deployment, tagged as those of prefect.yaml are."""
        flow_id = self.server.post("/flows/", {"name": flow})["id"]
        deployment = {"name": environment, "flow_id": flow_id, "tags": ["nightshift"]}
        found: str = self.server.post("/deployments/", deployment)["id"]
        return found

    def run(self, deployment_id: str, *states: tuple[str, str], message: str = "") -> str:
        """A run that goes through states, each (type, name), the last one with a message. Return its id."""
        run_id: str = self.server.post(f"/deployments/{deployment_id}/create_flow_run", {})["id"]
        for state in states:
            self.become(run_id, *state, message=message if state == states[-1] else "")
        return run_id

    def become(self, run_id: str, kind: str, name: str, *, message: str = "") -> None:
        """Set a run's state."""
        state = {"type": kind, "name": name, "message": message}
        answer = self.server.post(f"/flow_runs/{run_id}/set_state", {"state": state, "force": True})
        assert answer["status"] == "ACCEPT", answer
        # As far apart as the states of runs are: a server on SQLite that is to write two things at once writes one, and may lose the other's event.
        time.sleep(0.3)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """What was told until now."""
        return [one.document for one in self.receiver.asked]

    @property
    def subjects(self) -> list[str]:
        """The first lines of what was told until now."""
        return [one["subject"] for one in self.messages]

    def times(self, subject: str) -> int:
        """How often something was told, where a server on SQLite did not tell it twice: when it cannot write, it takes the event again, and tells again."""
        count = self.subjects.count(subject)
        return (
            min(count, 1)
            if count > 1 and "database is locked" in self.server.prefect.service.log.read_text()
            else count
        )

    def only(self, *subjects: str) -> None:
        """Fail unless these were told, each once, and nothing else."""
        assert {one: self.times(one) for one in self.subjects} == dict.fromkeys(subjects, 1), self.subjects

    def wait_for(self, subject: str, *, times: int = 1) -> None:
        """Wait until something was told so often."""
        wait_until(lambda: self.subjects.count(subject) >= times, f"told: {subject}; {self.subjects}", seconds=PATIENCE)


@pytest.fixture
def told(restarting_prefect: RestartingPrefect) -> Iterator[Told]:
    """A server and its receiver."""
    receiver = WebScript()
    try:
        yield Told(restarting_prefect, receiver)
    finally:
        receiver.close()


def test_what_ended_badly_is_told_once_with_what_happened_where_and_what_is_next_and_nothing_else_is(
    told: Told,
) -> None:
    told.put()
    backup, release = told.deploy("nightly-backup"), told.deploy("release", "staging")
    begun = (("PENDING", "Pending"), ("RUNNING", "Running"))
    told.run(backup, *begun, ("COMPLETED", "Completed"), message="all is well")
    told.run(backup, *begun, ("CANCELLED", "Cancelled"))
    failed = told.run(backup, *begun, ("FAILED", "Failed"), message="could not connect to orders: refused")
    told.run(release, *begun, ("FAILED", "RolledBack"), message="2 % of the requests failed")
    told.run(release, *begun, ("CRASHED", "Crashed"))
    told.run(release, *begun, ("PAUSED", "Suspended"))
    last = ["nightshift production: nightly-backup Failed", "nightshift staging: release RolledBack",
            "nightshift staging: release Crashed", "nightshift staging: release waits for a person"]  # fmt: skip
    for subject in last:
        told.wait_for(subject)
    # One more, so that all that came before was told if it was to be.
    told.run(backup, *begun, ("FAILED", "TimedOut"))
    told.wait_for("nightshift production: nightly-backup TimedOut")
    told.only(*last, "nightshift production: nightly-backup TimedOut")

    body = next(one["body"] for one in told.messages if one["subject"] == last[0])
    assert body.strip().startswith("could not connect to orders: refused\n\nEnvironment: production\nRun: ")
    assert f"/v2/runs/flow-run/{failed}\n" in body
    assert body.endswith("docs/backup.md")
    taken_back = next(one["body"] for one in told.messages if one["subject"] == last[1])
    assert "2 % of the requests failed" in taken_back
    assert "The old version serves." in taken_back
    crashed = next(one["body"] for one in told.messages if one["subject"] == last[2])
    assert "(no message)" in crashed
    assert "nightshift releases staging" in crashed


def test_a_sweep_that_finds_the_same_trouble_again_is_told_once_an_hour_and_hides_no_other_state(told: Told) -> None:
    told.put()
    recovery, watch = told.deploy("release-recovery"), told.deploy("post-deploy-watch")
    elsewhere = told.deploy("release-recovery", "staging")
    for _ in range(3):
        told.run(recovery, ("FAILED", "Failed"), message="r-1 is held")
    told.run(watch, ("FAILED", "Failed"), message="Prometheus is away")
    told.run(watch, ("FAILED", "Degraded"), message="worse than before")
    told.run(elsewhere, ("FAILED", "Failed"))
    expected = ["nightshift production: release-recovery Failed", "nightshift production: post-deploy-watch Failed",
                "nightshift production: post-deploy-watch Degraded", "nightshift staging: release-recovery Failed"]  # fmt: skip
    for subject in expected:
        told.wait_for(subject)
    told.only(*expected)
    degraded = next(one["body"] for one in told.messages if one["subject"] == expected[2])
    assert "nightshift rollback production" in degraded


def test_a_night_without_a_completed_backup_is_told_once_and_one_with_is_not(told: Told, tmp_path: Path) -> None:
    folder = tmp_path / "automations"
    folder.mkdir()
    shutil.copy(AUTOMATIONS / "stands-still.yaml", folder)
    file = folder / "stands-still.yaml"
    # Long enough that a busy machine completes a run within it.
    file.write_text(file.read_text().replace("within: 93600", "within: 15"))
    told.put(folder)
    well, ill, never = (told.deploy("nightly-backup", name) for name in ("well", "ill", "never"))
    drill = told.deploy("dr-drill", "well")
    silent = "nightshift {}: no nightly-backup has completed for 26 hours"
    told.run(well, ("COMPLETED", "Completed"))
    told.run(drill, ("COMPLETED", "Completed"))
    told.run(ill, ("COMPLETED", "Completed"))
    # Begins, and is never heard of again: there was no Completed one before it.
    hanging = told.run(never, ("RUNNING", "Running"))

    def well_completes_until(subject: str, times: int = 1) -> None:
        # Often enough for its 15 s, and seldom enough that a server on SQLite, which loses an event when it cannot write, has little to write.
        last = 0.0

        def told_by_now() -> bool:
            nonlocal last
            if time.monotonic() - last > 2:
                told.run(well, ("COMPLETED", "Completed"))
                last = time.monotonic()
            return told.subjects.count(subject) >= times

        try:
            wait_until(told_by_now, f"told: {subject}", seconds=PATIENCE)
        except AssertionError as error:
            error.add_note(f"told: {told.subjects}")
            raise

    well_completes_until(silent.format("ill"))
    well_completes_until(silent.format("never"))
    well_completes_until("nightshift well: no dr-drill has completed for 26 hours")
    body = next(one["body"] for one in told.messages if one["subject"] == silent.format("never"))
    assert f"/v2/runs/flow-run/{hanging}\n" in body
    assert "docs/backup.md" in body

    # Fired once, and armed again by a run that is late since nobody takes it, not by silence.
    assert told.times(silent.format("ill")) == 1
    told.run(ill, ("SCHEDULED", "Late"))
    well_completes_until(silent.format("ill"), times=2)
    assert told.times(silent.format("never")) == 1
    assert silent.format("well") not in told.subjects
