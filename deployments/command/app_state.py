"""`nightshift app-state-backup ENV`: starts the backup of application state on the Prefect server and follows it to its end."""

from typing import Annotated, Any

import typer

from core.state_facts import app_state_of
from deployments.command.backup import as_document, how_to_cancel, with_reason
from deployments.command.deploying import ensure_deployment
from deployments.command.follow import RunView, follow_run, start_deployment
from deployments.command.prefect_api import Server, find_server
from deployments.command.run_display import show_run
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, console, print_json, tell_error
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
    view = run_app_state_backup(server, environment, parameters, quiet=as_json)
    if as_json:
        print_json(as_document(server, environment, view))
    elif view.well:
        console.print(f"{view.message}\n{server.run_url(view.run_id)}", markup=False, soft_wrap=True)
    else:
        tell_error(f"{view.state_name}: {view.message}. See {server.run_url(view.run_id)}")
    raise typer.Exit(0 if view.well else EXIT_NOT_WELL)


def run_app_state_backup(server: Server, environment: str, parameters: dict[str, Any], *, quiet: bool) -> RunView:
    """Start the flow with its parameters, show it while it goes on, and return how it ended."""
    with server.client() as client:
        ensure_deployment(server, client, FLOW, environment, quiet=quiet)
        run_id = start_deployment(client, f"{FLOW}/{environment}", parameters)
        try:
            view = show_run(follow_run(client, run_id), quiet=quiet)
        except KeyboardInterrupt:
            tell_error(f"no longer following; the run goes on. {how_to_cancel(server, run_id)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        return view if view.well else with_reason(client, view)
