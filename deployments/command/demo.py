"""`nightshift demo`: the nightly backup end to end on a platform of its own, and what came of it."""

import importlib
import os
import threading
from types import ModuleType
from typing import Annotated

import typer
from rich.text import Text

from deployments.command.endings import unwinding_signals
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, console, tell_error
from deployments.command.trial import DEFAULT_ROWS, RowsOption, Teller, show_platform
from deployments.local.data_folder import CHECKOUT, platform_folder
from deployments.local.platform import Platform


def demo_command(
    rows: RowsOption = DEFAULT_ROWS,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the platform running after the result, until Ctrl-C.")
    ] = False,
) -> None:
    """Back up, drill and restore once, end to end, on embedded parts; nothing is left running."""
    console.print(
        Text.assemble(
            ("nightshift demo", "bold"),
            ": PostgreSQL, an S3 stand-in, a Prefect server and a worker on this machine, and on them a nightly backup, drills and a restore",
        )
    )
    # The environments of this checkout, whatever folder the user's own are in.
    os.environ["NIGHTSHIFT_ENVIRONMENTS"] = str(CHECKOUT / "deployments" / "environments")
    with unwinding_signals():
        try:
            well = _demonstrate(rows, keep)
        except KeyboardInterrupt:
            tell_error("ended by Ctrl-C; nothing is left running")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(0 if well else EXIT_NOT_WELL)


def _demonstrate(rows: int, keep: bool) -> bool:
    teller = Teller()
    # Prefect is imported while its server starts: either takes seconds, on a core of its own.
    platform = Platform(platform_folder("demo"), rows=rows, tell=teller, meanwhile=_demo_run)
    with platform:
        show_platform(platform)
        well: bool = _demo_run().demonstrate(platform)
        if keep:
            console.print("Running until Ctrl-C.")
            platform.watch(threading.Event())
        teller("stopping all that was started")
    teller("stopped; nothing is left running")
    return well


def _demo_run() -> ModuleType:
    return importlib.import_module("deployments.command.demo_run")
