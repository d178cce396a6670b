"""The automations of deployments/automations/: each is put on the server once, changed when its file changes, and left off when somebody switched it off."""

import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.events.actions import ChangeFlowRunState, SendNotification
from prefect.events.schemas.automations import Automation, EventTrigger, Posture
from pydantic import SecretStr
from typer.testing import CliRunner

from core.errors import ConfigurationError
from deployments.command.automations import AUTOMATIONS, ensure_automations, read_automations
from deployments.command.main import build_app
from deployments.local.data_folder import CHECKOUT

ZOMBIES, STANDSTILL = "nightshift, runs without a heartbeat", "nightshift, no sweep for ten minutes"
BACKUP, DRILL = "nightshift, no nightly backup for 26 hours", "nightshift, no drill for 26 hours"
# Without anybody to tell they would do nothing.
RUN, SWEEP, WAITS = (
    "nightshift, a run ended badly",
    "nightshift, a sweep ended badly",
    "nightshift, a run waits for a person",
)
TELLING, ACTING = {RUN, SWEEP, WAITS}, {ZOMBIES, STANDSTILL, BACKUP, DRILL}
NOT_MADE = "not made: nobody is to be told"


@pytest.fixture
def client(prefect_server: str) -> Iterator[SyncPrefectClient]:
    """A client of a server without automations."""
    with get_client(sync_client=True) as found:
        for automation in found.read_automations():
            found.delete_automation(automation.id)
        yield found


@pytest.fixture
def oncall() -> CustomWebhookNotificationBlock:
    """A webhook of the server's, to which nothing is sent here."""
    block = CustomWebhookNotificationBlock(name="oncall", url="http://127.0.0.1:9/", json_data={"text": "{{body}}"})
    block.save("oncall", overwrite=True)
    return block


def deployments() -> list[dict[str, Any]]:
    """The entries of prefect.yaml."""
    entries: list[dict[str, Any]] = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())["deployments"]
    return entries


def run_command(*options: str, fails: bool = False) -> str:
    """What `nightshift automations` prints, or the error that it ends with."""
    arguments = ["automations", *options]
    result = CliRunner().invoke(build_app(arguments), arguments)
    assert bool(result.exit_code) == fails, result.output
    return f"{result.output}{result.exception or ''}"


def told(client: SyncPrefectClient) -> set[str]:
    """The automations that tell somebody."""
    return {
        one.name for one in client.read_automations() if any(isinstance(act, SendNotification) for act in one.actions)
    }


def only(client: SyncPrefectClient, name: str) -> Automation:
    """The one automation of a name."""
    (found,) = client.read_automations_by_name(name)
    return found


@pytest.mark.xdist_group("prefect")
def test_they_are_made_once_and_then_as_they_should_be(client: SyncPrefectClient) -> None:
    nobody = dict.fromkeys(TELLING, NOT_MADE)
    assert ensure_automations(client) == nobody | dict.fromkeys(ACTING, "made")
    assert ensure_automations(client) == nobody | dict.fromkeys(ACTING, "as it should be")
    assert {one.name for one in client.read_automations()} == ACTING


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
def test_one_that_somebody_switched_off_stays_off_and_is_told(
    client: SyncPrefectClient, oncall: CustomWebhookNotificationBlock
) -> None:
    ensure_automations(client)
    client.pause_automation(only(client, ZOMBIES).id)
    assert ensure_automations(client)[ZOMBIES] == "switched off by somebody"
    assert not only(client, ZOMBIES).enabled
    # Also one that would be taken away: when somebody is named again it would be on.
    run_command("--notify", "custom-webhook/oncall")
    client.pause_automation(only(client, WAITS).id)
    assert ensure_automations(client, block=None)[WAITS] == "switched off by somebody"
    assert not only(client, WAITS).enabled


@pytest.mark.xdist_group("prefect")
def test_the_command_puts_them_there(client: SyncPrefectClient) -> None:
    output = run_command()
    assert f"{ZOMBIES}: made" in output
    assert f"{RUN}: {NOT_MADE}" in output
    assert "Nobody is told of anything" in output
    assert only(client, ZOMBIES).enabled


@pytest.mark.xdist_group("prefect")
def test_who_is_told_is_named_once_and_stays_until_another_is_named_or_nobody(
    client: SyncPrefectClient, oncall: CustomWebhookNotificationBlock
) -> None:
    output = run_command("--notify", "custom-webhook/oncall")
    assert "They tell custom-webhook/oncall." in output
    assert all(f"{name}: made" in output for name in TELLING | ACTING)
    assert told(client) == {RUN, SWEEP, WAITS, STANDSTILL, BACKUP, DRILL}
    # As `nightshift release` does, and as somebody who repeats the command without the option.
    assert set(ensure_automations(client).values()) == {"as it should be"}
    assert "They tell custom-webhook/oncall." in run_command()
    assert told(client) == {RUN, SWEEP, WAITS, STANDSTILL, BACKUP, DRILL}

    output = run_command("--notify", "none")
    assert all(f"{name}: taken away" in output for name in TELLING)
    assert f"{BACKUP}: changed" in output
    assert told(client) == set()
    assert {one.name for one in client.read_automations()} == ACTING


@pytest.mark.xdist_group("prefect")
@pytest.mark.parametrize(
    ("given", "found"),
    [("oncall", "it is not TYPE/NAME"), ("slack-webhook/oncall", "no such block"), ("secret/no-bell", "no notification block")],
)  # fmt: skip
def test_a_block_that_nobody_can_be_told_by_is_refused_and_nothing_is_changed(
    client: SyncPrefectClient, given: str, found: str
) -> None:
    Secret(value=SecretStr("x")).save("no-bell", overwrite=True)
    assert found in run_command("--notify", given, fails=True)
    assert client.read_automations() == []


@pytest.mark.xdist_group("prefect")
def test_a_block_that_is_gone_is_an_error_since_nobody_is_told_any_more(
    client: SyncPrefectClient, oncall: CustomWebhookNotificationBlock
) -> None:
    run_command("--notify", "custom-webhook/oncall")
    CustomWebhookNotificationBlock.delete("oncall")
    assert "nobody is told" in run_command(fails=True)


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


def test_every_flow_of_prefect_yaml_is_told_of_when_it_ends_badly_and_has_a_next_step() -> None:
    flows = {entry["entrypoint"].rsplit(".", 1)[1].replace("_", "-") for entry in deployments()}
    by_name = {one.name: one for one in read_automations(AUTOMATIONS, uuid.uuid4())}
    covered: set[str] = set()
    for name in (RUN, SWEEP):
        trigger, (action,) = by_name[name].trigger, by_name[name].actions
        assert isinstance(trigger, EventTrigger)
        assert isinstance(action, SendNotification)
        assert trigger.match["prefect.state-type"] == ["FAILED", "CRASHED"]
        assert isinstance(trigger.match_related, list)
        covered |= set(trigger.match_related[0]["prefect.resource.name"])
        assert all(f'"{flow}": ' in action.body for flow in flows)
    assert covered == flows


def test_the_page_that_a_message_names_is_there() -> None:
    for automation in read_automations(AUTOMATIONS, uuid.uuid4()):
        for action in automation.actions:
            if isinstance(action, SendNotification):
                assert all((CHECKOUT / page).is_file() for page in re.findall(r"docs/[a-z-]+\.md", action.body))
