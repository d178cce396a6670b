"""`nightshift demo`: the nightly backup end to end on a platform of its own, and what came of it."""

import os
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from core.errors import TemporaryError
from deployments.command.backup import FLOW, with_reason
from deployments.command.backup_result import read_result, save_result, show_result
from deployments.command.endings import unwinding_signals
from deployments.command.follow import RunView, follow_run, start_deployment
from deployments.command.prefect_api import server_of
from deployments.command.run_display import show_run
from deployments.command.terminal import EXIT_INTERRUPTED, EXIT_NOT_WELL, console, tell_error
from deployments.command.up import DEFAULT_ROWS, RowsOption, Teller, show_platform
from deployments.local.data_folder import CHECKOUT, platform_folder
from deployments.local.platform import Platform
from deployments.local.running import LOCAL


def demo_command(
    rows: RowsOption = DEFAULT_ROWS,
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the platform running after the result, until Ctrl-C.")
    ] = False,
) -> None:
    """Run the nightly backup once, end to end, on embedded parts; nothing is left running."""
    console.print(
        "[bold]nightshift demo[/bold]: PostgreSQL, an S3 stand-in, a Prefect server and a worker on this machine, and one nightly backup"
    )
    with unwinding_signals():
        try:
            # The environments of this checkout, whatever folder the user's own are in.
            os.environ["NIGHTSHIFT_ENVIRONMENTS"] = str(CHECKOUT / "deployments" / "environments")
            teller = Teller()
            with Platform(platform_folder("demo"), rows=rows, tell=teller) as platform:
                show_platform(platform)
                well = _back_up(platform)
                if keep:
                    console.print("Running until Ctrl-C.")
                    platform.watch(threading.Event())
                teller("stopping all that was started")
            teller("stopped; nothing is left running")
        except KeyboardInterrupt:
            tell_error("ended by Ctrl-C; nothing is left running")
            raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(0 if well else EXIT_NOT_WELL)


def _back_up(platform: Platform) -> bool:
    server = server_of(platform.running)
    with server.client() as client:
        run_id = start_deployment(client, f"{FLOW}/{LOCAL}", {"environment": LOCAL})
        view = show_run(_watched(platform, follow_run(client, run_id, patience_seconds=20)))
        if not view.well:
            view = with_reason(client, view)
    if not view.well:
        tell_error(f"the backup is {view.state_name}: {view.message}. Logs: {platform.folder.logs}")
        return False
    os.environ.update(platform.variables)
    result = read_result(LOCAL)
    show_result(result, server.run_url(run_id), save_result(result, platform.folder.path))
    return True


def _watched(platform: Platform, views: Iterator[RunView]) -> Iterator[RunView]:
    """The views, for as long as all servers live; a server that died is the better error than one that does not answer."""
    try:
        for view in views:
            platform.check()
            yield view
    except TemporaryError:
        platform.check()
        raise
