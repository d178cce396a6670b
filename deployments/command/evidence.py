"""`nightshift evidence verify|show ENV`: whether the reports of an environment are whole, and what one of them says."""

from typing import Annotated

import typer
from rich.markdown import Markdown

from core.evidence_chain import ChainResult
from core.keys import evidence_folder
from core.report_text import render_report
from core.units import counted
from deployments.command.terminal import EXIT_NOT_WELL, console, print_json, tell_error
from tasks.environments import load_environment
from tasks.evidence import read_report, verify_chain
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys

_EnvironmentName = Annotated[
    str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of text.")]

_NO_REPORT = "there is no report: nothing ran yet, or all of them were removed"

evidence_app = typer.Typer(
    help="The signed, chained reports of every run: verify them, read one.", no_args_is_help=True
)


@evidence_app.command("verify")
def verify_command(environment: _EnvironmentName, as_json: _Json = False) -> None:
    """Look at every report: signatures, numbers, links, and the end of the chain. Exit code 1 when something is wrong, or nothing is there."""
    loaded = load_environment(environment)
    store = ObjectStore.open(loaded)
    result = verify_chain(store, loaded, signing_keys(loaded))
    if not result.reports and not result.problems:
        result = ChainResult(0, [_NO_REPORT])
    folder = f"s3://{store.bucket}/{evidence_folder(loaded.prefix)}"
    if as_json:
        print_json(
            {
                "environment": loaded.name,
                "folder": folder,
                "reports": result.reports,
                "whole": not result.problems,
                "problems": result.problems,
            }
        )
    elif result.problems:
        for problem in result.problems:
            tell_error(problem)
        tell_error(f"{folder}: {counted(len(result.problems), 'problem')} in {counted(result.reports, 'report')}")
    else:
        whole = "all whole" if result.reports > 1 else "whole"
        console.print(f"✔ {folder}: {counted(result.reports, 'report')}, {whole}", soft_wrap=True)
    raise typer.Exit(EXIT_NOT_WELL if result.problems else 0)


@evidence_app.command("show")
def show_command(
    environment: _EnvironmentName,
    sequence: Annotated[int | None, typer.Argument(min=1, help="The report's number. Empty: the newest.")] = None,
    as_json: _Json = False,
) -> None:
    """Show one report; its signature is verified first."""
    loaded = load_environment(environment)
    store = ObjectStore.open(loaded)
    key, report = read_report(store, loaded, signing_keys(loaded), sequence)
    if as_json:
        print_json(report.model_dump(mode="json"))
        return
    text = render_report(report, loaded.zone, f"s3://{store.bucket}/{key}")
    if console.is_terminal:
        console.print(Markdown(text))
    else:
        console.print(text, soft_wrap=True)
