"""`nightshift automations`: puts what stands in deployments/automations/ on the Prefect server.

What starts release-recovery belongs to its deployment (`triggers` in prefect.yaml) and comes and goes with it. Here is what belongs to no deployment: one file each.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.events.schemas.automations import AutomationCore
from pydantic import ValidationError

from core.errors import ConfigurationError
from deployments.command.prefect_api import find_server
from deployments.command.terminal import console, print_json
from deployments.local.data_folder import CHECKOUT

AUTOMATIONS = CHECKOUT / "deployments" / "automations"
Change = Literal["made", "changed", "as it should be", "switched off by somebody"]
# What somebody who switches an automation off means to stay so, and what the server adds by itself.
_NOT_OURS = {"enabled", "owner_resource"}


def automations_command(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")] = False,
) -> None:
    """Put nightshift's automations on the Prefect server, or change them there to what their files say. May be repeated."""
    server = find_server("*")
    with server.client() as client:
        done = ensure_automations(client)
    if as_json:
        print_json({"server": server.api_url, "automations": done})
        return
    for name, change in done.items():
        console.print(f"{name}: {change}", soft_wrap=True)


def ensure_automations(client: SyncPrefectClient, folder: Path = AUTOMATIONS) -> dict[str, Change]:
    """Make each automation of the folder that the server does not know by its name, and change those that differ. Return name → what was done."""
    return {wanted.name: _ensure(client, wanted) for wanted in read_automations(folder)}


def read_automations(folder: Path = AUTOMATIONS) -> Iterator[AutomationCore]:
    """The automations of a folder's files, by file name. Raise ConfigurationError, naming the file, when one is none."""
    for file in sorted(folder.glob("*.yaml")):
        try:
            yield AutomationCore.model_validate(yaml.safe_load(file.read_text()))
        except (yaml.YAMLError, ValidationError) as error:
            raise ConfigurationError("read the automation", str(file), str(error), "Correct it") from error


def _ensure(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    # Names are not unique for the server: the first one counts, and one that somebody copied is theirs.
    found = next(iter(client.read_automations_by_name(wanted.name)), None)
    if found is None:
        client.create_automation(wanted)
        return "made"
    if not found.enabled:
        return "switched off by somebody"
    if _compared(found) != _compared(wanted):
        client.update_automation(found.id, wanted)
        return "changed"
    return "as it should be"


def _compared(automation: AutomationCore) -> dict[str, Any]:
    return AutomationCore.model_validate(automation.model_dump()).model_dump(exclude=_NOT_OURS)
