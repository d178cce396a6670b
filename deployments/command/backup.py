"""`nightshift backup ENV`: starts the nightly backup on the Prefect server and follows it to its end."""

from dataclasses import replace
from typing import Annotated, Any, Literal
from uuid import UUID

import typer
from prefect.client.orchestration import SyncPrefectClient

from deployments.command.deploying import ensure_deployment
from deployments.command.follow import RunView, follow_run, last_error, start_deployment
from deployments.command.prefect_api import PREFECT, Server, find_server, prefect_command
from deployments.command.run_display import show_run
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, console, print_json, tell_error

FLOW = "nightly-backup"
RetentionMode = Literal["apply", "dry-run", "skip"]


def backup_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    database: Annotated[
        list[str] | None, typer.Option("--database", "-d", help="Only this database; may be given several times.")
    ] = None,
    retention: Annotated[
        RetentionMode,
        typer.Option("--retention", help="Delete what is no longer kept, only show the plan, or neither."),
    ] = "apply",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of the display.")] = False,
) -> None:
    """Back up an environment's databases now: starts the flow on the server and follows it."""
    server = find_server(environment)
    parameters = {"environment": environment, "databases": list(database or ()), "retention": retention}
    view = run_backup(server, environment, parameters, quiet=as_json)
    if as_json:
        print_json(as_document(server, environment, view))
    elif view.well:
        console.print(f"{view.message}\n{server.run_url(view.run_id)}", markup=False, soft_wrap=True)
    else:
        tell_error(f"{view.state_name}: {view.message}. See {server.run_url(view.run_id)}")
    raise typer.Exit(0 if view.well else EXIT_NOT_WELL)


def run_backup(server: Server, environment: str, parameters: dict[str, Any], *, quiet: bool) -> RunView:
    """Start the backup of an environment with the flow's parameters, show it while it goes on, and return how it ended."""
    name = f"{FLOW}/{environment}"
    with server.client() as client:
        ensure_deployment(server, client, FLOW, environment, quiet=quiet)
        run_id = start_deployment(client, name, parameters)
        try:
            view = show_run(follow_run(client, run_id), quiet=quiet)
        except KeyboardInterrupt:
            tell_error(f"no longer following; the run goes on. {how_to_cancel(server, run_id)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        return view if view.well else with_reason(client, view)


def how_to_cancel(server: Server, run_id: UUID) -> str:
    """Given a run, say how it is ended: in the UI, or by a command where it works as it stands in this shell."""
    sentence = f"To end it: Cancel on its page, {server.run_url(run_id)}"
    # The platform of this machine asks for a password that must not be printed; for a server of the user's own the shell has what it takes.
    if server.platform is None and PREFECT.exists():
        sentence += f", or: {prefect_command(f'flow-run cancel {run_id}')}"
    return sentence


def with_reason(client: SyncPrefectClient, view: RunView) -> RunView:
    """The view of a run that did not complete, with the reason from its log where its state does not tell it."""
    if view.state_type != "CRASHED" and view.message:
        return view
    reason = last_error(client, view.run_id)
    return replace(view, message=f"{view.message.rstrip('.')}: {reason}".removeprefix(": ")) if reason else view


def as_document(server: Server, environment: str, view: RunView) -> dict[str, Any]:
    """The result for scripts."""
    return {
        "environment": environment,
        "flow_run_id": str(view.run_id),
        "name": view.name,
        "state": view.state_name,
        "completed": view.well,
        "message": view.message,
        "seconds": round(view.seconds, 1),
        "url": server.run_url(view.run_id),
    }
