"""`nightshift automations`: puts what stands in deployments/automations/ on the Prefect server.

What starts release-recovery belongs to its deployment (`triggers` in prefect.yaml) and comes and goes with it. Here is what belongs to no deployment: one file for one
automation, or for a list of them. Whom they tell is a notification block of the server's; the files say only what is told.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import SendNotification
from prefect.events.schemas.automations import Automation, AutomationCore
from pydantic import ValidationError

from core.errors import ConfigurationError
from deployments.command.notification_block import NotificationBlock, find_block, named_block
from deployments.command.prefect_api import find_server
from deployments.command.terminal import console, print_json
from deployments.local.data_folder import CHECKOUT

AUTOMATIONS = CHECKOUT / "deployments" / "automations"
Change = Literal[
    "made", "changed", "as it should be", "switched off by somebody", "not made: nobody is to be told", "taken away"
]
NOBODY = "none"
# What somebody who switches an automation off means to stay so, and what the server adds by itself.
_NOT_OURS = {"enabled", "owner_resource"}


def automations_command(
    notify: Annotated[
        str,
        typer.Option(
            help="Who is told: a notification block of the server's, as TYPE/NAME (slack-webhook/oncall). "
            "none: nobody. Left out: whoever is told now."
        ),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Put nightshift's automations on the Prefect server, or change them there to what their files say. May be repeated."""
    server = find_server("*")
    with server.client() as client:
        block = _block(client, notify)
        done = ensure_automations(client, block=block.id if block else None)
    if as_json:
        print_json({"server": server.api_url, "notify": block.name if block else None, "automations": done})
        return
    for name, change in done.items():
        console.print(f"{name}: {change}", soft_wrap=True)
    told = (
        f"They tell {block.name}."
        if block
        else "Nobody is told of anything: make a notification block on the server (docs/operating.md), then nightshift automations --notify TYPE/NAME"
    )
    console.print(told, soft_wrap=True)


def _block(client: SyncPrefectClient, notify: str) -> NotificationBlock | None:
    """Whom `--notify` names; left out, whom the automations of the server tell now. Raise ConfigurationError when that block is not there."""
    if notify == NOBODY:
        return None
    if notify:
        return named_block(client, notify)
    now = told_now(client)
    return find_block(client, now) if now else None


def told_now(client: SyncPrefectClient, folder: Path = AUTOMATIONS) -> UUID | None:
    """The block that our automations on the server tell, by its id; None when they tell nobody."""
    return _told_by(_standing(client, folder))


def ensure_automations(
    client: SyncPrefectClient, folder: Path = AUTOMATIONS, block: UUID | Literal["as now"] | None = "as now"
) -> dict[str, Change]:
    """Make each automation of the folder that the server does not know by its name, and change those that differ. Return name → what was done.

    Args:
        block: The notification block that they tell, by its id. None: nobody; what would only tell is then not there.
    """
    standing = _standing(client, folder)
    told = _told_by(standing) if block == "as now" else block
    return {wanted.name: _ensure(client, wanted, standing[wanted.name]) for wanted in read_automations(folder, told)}


def read_automations(folder: Path = AUTOMATIONS, block: UUID | None = None) -> Iterator[AutomationCore]:
    """The automations of a folder's files when that block is told. Without a block, those that would only tell have no action left."""
    for file, document in _documents(folder):
        actions = [
            {**action, "block_document_id": block} if action.get("type") == "send-notification" else action
            for action in document["actions"]
            if block or action.get("type") != "send-notification"
        ]
        try:
            yield AutomationCore.model_validate({**document, "actions": actions})
        except ValidationError as error:
            raise _no_automation(file, error) from error


def _documents(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Each automation of a folder's files as it stands there, with its file, by file name. Raise ConfigurationError, naming the file, when it holds none."""
    for file in sorted(folder.glob("*.yaml")):
        try:
            read = yaml.safe_load(file.read_text())
        except yaml.YAMLError as error:
            raise _no_automation(file, error) from error
        for document in read if isinstance(read, list) else [read]:
            if not isinstance(document, dict) or not document.get("name") or not document.get("actions"):
                raise _no_automation(file, "it has no name, or no actions")
            yield file, document


def _no_automation(file: Path, error: object) -> ConfigurationError:
    return ConfigurationError("read the automation", str(file), str(error), "Correct it")


def _standing(client: SyncPrefectClient, folder: Path) -> dict[str, Automation | None]:
    # Names are not unique for the server: the first one counts, and one that somebody copied is theirs.
    names = [document["name"] for _, document in _documents(folder)]
    return {name: next(iter(client.read_automations_by_name(name)), None) for name in names}


def _told_by(standing: Mapping[str, Automation | None]) -> UUID | None:
    actions = (action for found in standing.values() if found for action in found.actions)
    return next((one.block_document_id for one in actions if isinstance(one, SendNotification)), None)


def _ensure(client: SyncPrefectClient, wanted: AutomationCore, found: Automation | None) -> Change:
    if found is None and not wanted.actions:
        return "not made: nobody is to be told"
    if found is None:
        client.create_automation(wanted)
        return "made"
    if not found.enabled:
        return "switched off by somebody"
    if not wanted.actions:
        client.delete_automation(found.id)
        return "taken away"
    if _compared(found) != _compared(wanted):
        client.update_automation(found.id, wanted)
        return "changed"
    return "as it should be"


def _compared(automation: AutomationCore) -> dict[str, Any]:
    return AutomationCore.model_validate(automation.model_dump()).model_dump(exclude=_NOT_OURS)
