"""What every command that runs a flow does: start its deployment on the server, follow the run, and say how it ended."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NoReturn
from uuid import UUID

import typer
from prefect.client.orchestration import SyncPrefectClient

from deployments.command.deploying import ensure_deployment
from deployments.command.follow import RunView, follow_run, last_error, start_deployment
from deployments.command.prefect_api import PREFECT, Server, prefect_command
from deployments.command.run_display import show_run
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, EXIT_WAITS, console, print_json, tell_error

# Their runs may also complete without a report: nothing was open, a plan was shown, a copy waits.
_MAY_END_WITHOUT_REPORT = frozenset({"restore", "release-recovery"})
_RELEASING = frozenset({"release", "rollback", "release-recovery"})


def run_flow(server: Server, flow: str, environment: str, parameters: dict[str, Any], *, quiet: bool) -> RunView:
    """Start FLOW/ENVIRONMENT with the flow's parameters, show the run while it goes on, and return how it ended, or that it waits for a person."""
    with server.client() as client:
        ensure_deployment(server, client, flow, environment, quiet=quiet)
        run_id = start_deployment(client, f"{flow}/{environment}", parameters)
        report = "" if flow in _MAY_END_WITHOUT_REPORT else f"{flow}-{environment}"
        try:
            view = show_run(follow_run(client, run_id, report=report), quiet=quiet)
        except KeyboardInterrupt:
            tell_error(f"no longer following; the run goes on. {how_to_cancel(server, run_id)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if view.set_by_hand:
            return replace(view, message=by_hand_sentence(flow, environment))
        return view if view.well or view.waits else with_reason(client, view)


def end_command(
    server: Server, environment: str, view: RunView, *, as_json: bool, more: Mapping[str, Any] | None = None
) -> NoReturn:
    """Print how a run ended, or what it waits for, and end the command with the exit code that says so. `more`: for the JSON document."""
    if as_json:
        print_json({**as_document(server, environment, view), **(more or {})})
    elif view.well:
        console.print(f"{view.message}\n{server.run_url(view.run_id)}", soft_wrap=True)
    elif view.waits:
        text = f"The run is not at its end: it waits for a person. Press Resume on its page and fill in the form:\n{server.run_url(view.run_id)}"
        console.print(text, soft_wrap=True)
    else:
        tell_error(f"{view.state_name}: {view.message.rstrip('.')}. See {server.run_url(view.run_id)}")
    raise typer.Exit(0 if view.well else EXIT_WAITS if view.waits else EXIT_NOT_WELL)


def by_hand_sentence(flow: str, environment: str) -> str:
    """What is said of a run that is Completed without its flow's word."""
    look = f"Look at nightshift releases {environment}" if flow in _RELEASING else "Look at its log"
    return f"its state was set by hand, not by the flow, which may be dead or still at work: nobody knows what was done. {look}"


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
        "waits_for_a_person": view.waits,
        "message": view.message,
        "seconds": round(view.seconds, 1),
        "url": server.run_url(view.run_id),
    }
