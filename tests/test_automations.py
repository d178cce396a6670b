"""The automations of deployments/automations/: each is put on the server once, changed when its file changes, and left off when somebody switched it off."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import Automation, EventTrigger, Posture
from typer.testing import CliRunner

from core.errors import ConfigurationError
from deployments.command.automations import AUTOMATIONS, ensure_automations, read_automations
from deployments.command.main import build_app

ZOMBIES, STANDSTILL = "nightshift, releases without a heartbeat", "nightshift, no sweep for ten minutes"


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of a server without automations."""
    with get_client(sync_client=True) as found:
        for automation in found.read_automations():
            found.delete_automation(automation.id)
        yield found


def only(client: SyncPrefectClient, name: str) -> Automation:
    """The one automation of a name."""
    (found,) = client.read_automations_by_name(name)
    return found


@pytest.mark.xdist_group("prefect")
def test_they_are_made_once_and_then_as_they_should_be(client: SyncPrefectClient) -> None:
    assert ensure_automations(client) == {STANDSTILL: "made", ZOMBIES: "made"}
    assert ensure_automations(client) == {STANDSTILL: "as it should be", ZOMBIES: "as it should be"}
    assert len(client.read_automations()) == 2


@pytest.mark.xdist_group("prefect")
def test_one_whose_file_changed_is_changed_in_place(client: SyncPrefectClient, tmp_path: Path) -> None:
    folder = tmp_path / "automations"
    shutil.copytree(AUTOMATIONS, folder)
    ensure_automations(client, folder)
    before = only(client, ZOMBIES)
    file = folder / "zombies.yaml"
    file.write_text(file.read_text().replace("within: 300", "within: 400"))
    assert ensure_automations(client, folder)[ZOMBIES] == "changed"
    after = only(client, ZOMBIES)
    assert after.id == before.id
    assert isinstance(after.trigger, EventTrigger)
    assert after.trigger.within.total_seconds() == 400
    assert ensure_automations(client, folder)[ZOMBIES] == "as it should be"


@pytest.mark.xdist_group("prefect")
def test_one_that_somebody_switched_off_stays_off_and_is_told(client: SyncPrefectClient) -> None:
    ensure_automations(client)
    client.pause_automation(only(client, ZOMBIES).id)
    assert ensure_automations(client)[ZOMBIES] == "switched off by somebody"
    assert not only(client, ZOMBIES).enabled


@pytest.mark.xdist_group("prefect")
def test_the_command_puts_them_there(client: SyncPrefectClient) -> None:
    arguments = ["automations"]
    result = CliRunner().invoke(build_app(arguments), arguments)
    assert result.exit_code == 0, result.output
    assert f"{ZOMBIES}: made" in result.output
    assert only(client, ZOMBIES).enabled


def test_a_file_that_is_no_automation_is_named(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("name: wrong\n")
    with pytest.raises(ConfigurationError, match=r"wrong\.yaml"):
        list(read_automations(tmp_path))


def test_a_run_without_heartbeats_is_marked_crashed_and_one_that_ended_or_waits_for_its_approval_is_not() -> None:
    (zombies,) = [one for one in read_automations() if one.name == ZOMBIES]
    assert isinstance(zombies.trigger, EventTrigger)
    assert zombies.trigger.posture == Posture.Proactive
    assert zombies.trigger.after == {"prefect.flow-run.heartbeat"}
    silent = {"Suspended", "Paused", "Completed", "Failed", "RolledBack", "TimedOut", "Crashed", "Cancelled"}
    assert zombies.trigger.expect == {"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{name}" for name in silent)}
    (action,) = zombies.actions
    assert isinstance(action, ChangeFlowRunState)
    assert action.state.value == "CRASHED"
