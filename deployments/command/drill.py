"""`nightshift drill ENV`: rehearses a recovery now."""

from typing import Annotated

import typer
from rich.markup import escape

from deployments.command.prefect_api import find_server
from deployments.command.run_flow import end_command, run_flow


def drill_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    database: Annotated[
        list[str] | None, typer.Option("--database", "-d", help="Only this database; may be given several times.")
    ] = None,
    backup: Annotated[
        str,
        typer.Option("--backup", help="Another backup than the newest that no drill has proven, as restore takes it."),
    ] = "",
    read_from_copy: Annotated[
        bool, typer.Option("--read-from-copy", help=escape("Read the bucket's copy in another region ([copy_store])."))
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of the display.")] = False,
) -> None:
    """Restore the newest unproven backup on a scratch server, and prove that it is what was backed up."""
    server = find_server(environment)
    parameters = {
        "environment": environment,
        "databases": list(database or ()),
        "backup": backup,
        "read_from_copy": read_from_copy,
    }
    view = run_flow(server, "dr-drill", environment, parameters, quiet=as_json)
    end_command(server, environment, view, as_json=as_json)
