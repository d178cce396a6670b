"""`nightshift try`: the trial platform of this machine, left running until Ctrl-C."""

import threading
import time
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from deployments.command.endings import unwinding_signals
from deployments.command.terminal import console
from deployments.local.data_folder import platform_folder
from deployments.local.platform import Platform

RowsOption = Annotated[
    int, typer.Option("--rows", min=1, max=100_000_000, help="Rows of the sample database's largest table.")
]
DEFAULT_ROWS = 2000


def try_command(rows: RowsOption = DEFAULT_ROWS) -> None:
    """Start the platform on this machine and leave it running until Ctrl-C."""
    run_until_stopped(Platform(platform_folder("trial"), rows=rows, tell=Teller()))


def run_until_stopped(platform: Platform) -> None:
    """Given a platform that is not started yet, start it, say where it is, and look after it until Ctrl-C. SIGTERM raises SystemExit; all is stopped."""
    with unwinding_signals():
        try:
            with platform:
                show_platform(platform)
                console.print(
                    Text.assemble("Running until Ctrl-C. In another terminal: ", ("nightshift backup local", "bold"))
                )
                platform.watch(threading.Event())
        except KeyboardInterrupt:
            console.print("stopped; nothing is left running")


class Teller:
    """Prints what the platform is doing, with the seconds since it began."""

    def __init__(self) -> None:
        """Begin to count."""
        self.started = time.monotonic()

    def __call__(self, sentence: str) -> None:
        """Print a sentence."""
        console.print(f"{time.monotonic() - self.started:5.1f} s  {sentence}", style="dim")


def show_platform(platform: Platform) -> None:
    """Print where everything is, and how to sign in; the password only on a terminal, since output in a pipe is a log."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("Prefect UI", Text(platform.prefect.ui_url, f"link {platform.prefect.ui_url}"))
    sign_in = platform.prefect.auth_string if console.is_terminal else f"auth_string in {platform.folder.record}"
    table.add_row("sign in with", sign_in)
    table.add_row(
        "database",
        f"{platform.sample.database} on 127.0.0.1:{platform.postgres.port} (PostgreSQL {platform.postgres.version})",
    )
    table.add_row("S3 stand-in", f"{platform.store.endpoint_url}, bucket {platform.store.bucket}")
    table.add_row("logs", str(platform.folder.logs))
    console.print(table)
