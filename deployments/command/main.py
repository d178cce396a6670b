"""The `nightshift` command: its table of contents, and how it ends."""

import typer

from core.errors import NightshiftError
from deployments.command.backup import backup_command
from deployments.command.check import check_command
from deployments.command.demo import demo_command
from deployments.command.init import init_command
from deployments.command.terminal import EXIT_INTERRUPTED, fail, tell_error
from deployments.command.up import up_command
from deployments.local.running import adopt_local_variables

TRY_IT, SET_UP, EVERY_DAY, PROVE = "Try it", "Set up", "Every day", "Prove"

app = typer.Typer(
    name="nightshift",
    help="Night work for PostgreSQL, S3 and Kubernetes that proves what it did: Prefect flows for backups, restores, releases and watches.",
    no_args_is_help=True,
    add_completion=False,
    # A traceback with local variables could show a secret.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def _before_each(context: typer.Context) -> None:
    # `nightshift catalog local` and the like find the platform that `nightshift up` runs in another terminal.
    if context.invoked_subcommand not in {"demo", "up"}:
        adopt_local_variables()


app.command("demo", rich_help_panel=TRY_IT)(demo_command)
app.command("up", rich_help_panel=TRY_IT)(up_command)
app.command("init", rich_help_panel=SET_UP)(init_command)
app.command("check", rich_help_panel=SET_UP)(check_command)
app.command("backup", rich_help_panel=EVERY_DAY)(backup_command)


def main() -> None:
    """Run the command that the arguments name. An error that we know ends in one line and the exit code of deployments.command.terminal."""
    try:
        app()
    except NightshiftError as error:
        fail(error)
    except KeyboardInterrupt:
        tell_error("ended by Ctrl-C")
        raise SystemExit(EXIT_INTERRUPTED) from None
