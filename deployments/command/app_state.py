"""`nightshift app-state-backup ENV`: starts the backup of application state on the Prefect server and follows it to its end."""

from typing import Annotated

import typer

from core.state_facts import app_state_of
from deployments.command.prefect_api import find_server
from deployments.command.run_flow import end_command, run_flow
from tasks.environments import load_environment

FLOW = "app-state-backup"


def app_state_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    drill: Annotated[
        bool, typer.Option("--drill", help="Also restore beside, where nothing can start, compare, and remove it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and show what would be backed up; make nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of the display.")] = False,
) -> None:
    """Back up application state with Velero now: starts the flow on the server and follows it."""
    # The file as this machine has it: a missing table is told here, not minutes later by the worker.
    app_state_of(environment, load_environment(environment).app_state)
    server = find_server(environment)
    parameters = {"environment": environment, "drill": drill, "dry_run": dry_run}
    view = run_flow(server, FLOW, environment, parameters, quiet=as_json)
    end_command(server, environment, view, as_json=as_json)
