"""`nightshift restore ENV DATABASE` and `nightshift undo-swap ENV RESTORE_ID`: restores beside the live database, and the way back."""

from typing import Annotated

import typer
from rich.markdown import Markdown
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from core.redaction import redact
from core.restore_choice import Option, options_text
from deployments.command.follow import read_table
from deployments.command.prefect_api import find_server
from deployments.command.run_flow import end_command, run_flow
from deployments.command.terminal import console
from tasks.chosen_backup import restore_options
from tasks.environments import load_environment
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys

_Environment = Annotated[str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of the display.")]


def restore_command(  # noqa: PLR0917 - a command has as many options as it has
    environment: _Environment,
    database: Annotated[str, typer.Argument(metavar="DATABASE", help="Its name in the environment's file.")],
    backup: Annotated[
        str,
        typer.Option(
            "--backup", help="A backup's id, newest-proven, newest-decoded, or before:TIME. Left out: you are asked."
        ),
    ] = "",
    target: Annotated[
        str, typer.Option("--target", help="Name of the new database. Left out: DATABASE_restored_ID.")
    ] = "",
    server: Annotated[
        str, typer.Option("--server", help=escape("A name of [servers.NAME]. Left out: the only one there is."))
    ] = "",
    table: Annotated[
        list[str] | None,
        typer.Option(
            "--table", help="Only this table (schema.table) or schema (schema.*); may be given several times."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", min=0, help="pg_restore's jobs. 0: as the environment says.")] = 0,
    allow_missing_extensions: Annotated[
        bool, typer.Option("--allow-missing-extensions", help="Leave out what the server lacks, and say so.")
    ] = False,
    masking: Annotated[str, typer.Option("--masking", help="SQL file on the worker, run on the verified copy.")] = "",
    swap: Annotated[
        bool, typer.Option("--swap", help="Then ask for approval, and let the copy take the live database's name.")
    ] = False,
    backup_of: Annotated[
        str,
        typer.Option(
            "--backup-of", help="With --swap, of a database that was renamed since the backup: its name in the backup."
        ),
    ] = "",
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Only show what would be done and what would refuse it; nothing is changed."),
    ] = False,
    as_json: _Json = False,
) -> None:
    """Restore a backup into a new database beside the live one, and prove it. Nothing is overwritten.

    Exit code 3: the run waits for an approval, and nothing was swapped yet.
    """
    if not backup:
        backup = _ask(environment, database)
    prefect = find_server(environment)
    parameters = {
        "environment": environment,
        "database": database,
        "backup": backup,
        "target": target,
        "server": server,
        "tables": list(table or ()),
        "jobs": jobs,
        "allow_missing_extensions": allow_missing_extensions,
        "masking": masking,
        "swap_live": swap,
        "backup_of": backup_of,
        "dry_run": dry_run,
    }
    view = run_flow(prefect, "restore", environment, parameters, quiet=as_json)
    if not dry_run:
        end_command(prefect, environment, view, as_json=as_json)
    with prefect.client() as client:
        plan = read_table(client, view.run_id, "restore-plan-")
    if not as_json:
        console.print(plan_table(plan))
    end_command(prefect, environment, view, as_json=as_json, more={"plan": plan})


def undo_swap_command(
    environment: _Environment,
    restore_id: Annotated[str, typer.Argument(metavar="RESTORE_ID", help="As the swap's report tells it.")],
    as_json: _Json = False,
) -> None:
    """Give the name back to the database that served before a swap; asks for an approval as the swap did.

    Exit code 3: the run waits for that approval, and nothing was changed yet.
    """
    prefect = find_server(environment)
    parameters = {"environment": environment, "restore_id": restore_id}
    view = run_flow(prefect, "undo-swap", environment, parameters, quiet=as_json)
    end_command(prefect, environment, view, as_json=as_json)


def plan_table(rows: list[dict[str, str]]) -> Table:
    """Given a plan's rows, return them as a table for a terminal."""
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        refused = "REFUSED" in row["what"]
        table.add_row(row["what"], Text(redact(row["value"]), "red" if refused else ""))
    return table


def _ask(environment: str, database: str) -> str:
    loaded = load_environment(environment)
    store = ObjectStore.open(loaded)
    choices: tuple[Option, ...] = restore_options(store, loaded, database, signing_keys(loaded))
    console.print(Markdown(options_text(choices, database)))
    answer: str = typer.prompt("Which backup")
    return answer
