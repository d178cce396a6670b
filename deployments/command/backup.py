"""`nightshift backup ENV`: starts the nightly backup on the Prefect server and follows it to its end."""

from typing import Annotated, Literal

import typer

from deployments.command.prefect_api import find_server
from deployments.command.run_flow import end_command, run_flow

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
    view = run_flow(server, FLOW, environment, parameters, quiet=as_json)
    end_command(server, environment, view, as_json=as_json)
