"""`nightshift release`, `rollback` and `release-recovery`: a new version out, back, and what was left in the middle to its end."""

import re
import shlex
from collections.abc import Sequence
from getpass import getuser
from typing import Annotated, Any, Literal

import typer
from rich.markdown import Markdown
from rich.text import Text

from core.frontend import DEPLOYMENT
from core.redaction import redact
from deployments.command.deploying import ensure_releasing
from deployments.command.follow import RunView, read_markdown
from deployments.command.prefect_api import Server, find_server
from deployments.command.run_flow import end_command, run_flow
from deployments.command.terminal import console

_Environment = Annotated[str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON document instead of the display.")]
_RequestedBy = Annotated[
    str, typer.Option("--requested-by", metavar="WHO", help="Who asked for it. Left out: who runs this command.")
]
_DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what would be changed. Nothing is.")]


def release_command(  # noqa: PLR0917 - a command has as many options as it has
    environment: _Environment,
    image: Annotated[str, typer.Argument(metavar="IMAGE", help="The new version's tag, or its digest (sha256:…).")],
    commit: Annotated[
        str,
        typer.Option(
            "--commit", metavar="SHA", help="The Git commit that the image was made of: 7 to 64 hexadecimal digits."
        ),
    ],
    schema_compatibility: Annotated[
        Literal["backward", "breaking"],
        typer.Option(
            "--schema-compatibility",
            help="breaking: the old version does not work with the migrated schema; there is no way back by itself.",
        ),
    ] = "backward",
    migrate: Annotated[
        bool, typer.Option("--migrate/--no-migrate", help="Run the environment's migration first.")
    ] = True,
    migrate_command: Annotated[
        str,
        typer.Option(
            "--migrate-command",
            metavar="'PROGRAM ARG …'",
            help="Migrate by this, instead of the environment's command.",
        ),
    ] = "",
    strategy: Annotated[
        Literal["rolling", "blue-green"] | None,
        typer.Option("--strategy", help="Another one than the environment's."),
    ] = None,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="The workload's plain Deployment may be taken over as the first of two colours."),
    ] = False,
    frontend: Annotated[
        str,
        typer.Option(
            "--frontend",
            metavar="DEPLOYMENT",
            help="A deployment of Vercel's (dpl_…, or its address) that is promoted with it, and taken back with it.",
        ),
    ] = "",
    skip: Annotated[
        list[str] | None,
        typer.Option(
            "--skip", metavar="ITEM=REASON", help="An item of the checklist that may fail; may be given several times."
        ),
    ] = None,
    dry_run: _DryRun = False,
    requested_by: _RequestedBy = "",
    as_json: _Json = False,
) -> None:
    """Bring a new version out, or back to the old one when anything is not well.

    Exit code 1: it did not get out; where it had begun, it went back. 3: the run waits for an approval, and nothing was changed yet.
    """
    if migrate_command and not migrate:
        raise typer.BadParameter("--migrate-command and --no-migrate exclude each other")
    if not re.fullmatch("[0-9a-f]{7,64}", commit.lower()):
        raise typer.BadParameter(f"{commit!r} is no commit: 7 to 64 hexadecimal digits", param_hint="--commit")
    if not re.fullmatch(DEPLOYMENT, frontend):
        raise typer.BadParameter(
            f"{frontend!r} is no deployment of Vercel's: dpl_…, or its address", param_hint="--frontend"
        )
    parameters = {
        "environment": environment,
        "image": image,
        "commit": commit.lower(),
        "strategy": strategy or "as configured",
        "schema_compatibility": schema_compatibility,
        "migrate": migrate,
        "migrate_command": shlex.split(migrate_command),
        "adopt": adopt,
        "frontend": frontend,
        "skip_checks": waivers(skip or ()),
        "dry_run": dry_run,
        "requested_by": requested_by or getuser(),
    }
    server, view = _run("release", environment, parameters, quiet=as_json)
    _end(server, environment, view, plan=dry_run, as_json=as_json)


def rollback_command(  # noqa: PLR0917 - a command has as many options as it has
    environment: _Environment,
    reason: Annotated[str, typer.Option("--reason", help="Why, in a sentence or an incident's number.")],
    release_id: Annotated[
        str,
        typer.Option(
            "--release",
            metavar="ID",
            help="Which release you mean; must be the newest that is live. Left out: that one.",
        ),
    ] = "",
    dry_run: _DryRun = False,
    requested_by: _RequestedBy = "",
    as_json: _Json = False,
) -> None:
    """Take the newest release back: the version before it serves again. Nothing of the database is changed."""
    parameters = {
        "environment": environment,
        "reason": reason,
        "release_id": release_id,
        "dry_run": dry_run,
        "requested_by": requested_by or getuser(),
    }
    server, view = _run("rollback", environment, parameters, quiet=as_json)
    _end(server, environment, view, plan=dry_run, as_json=as_json)


def recovery_command(
    environment: _Environment,
    release_id: Annotated[
        str, typer.Argument(metavar="RELEASE_ID", help="Only this one. Left out: every one that was left open.")
    ] = "",
    decision: Annotated[
        Literal["forward", "back"] | None,
        typer.Option("--decision", help="Your word where it holds because it must not decide alone."),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; goes with --decision.")] = "",
    as_json: _Json = False,
) -> None:
    """Bring releases that were left in the middle to their end. The sweep does so by itself within two minutes."""
    if decision and not (release_id and reason.strip()):
        raise typer.BadParameter("a decision needs RELEASE_ID and --reason")
    if reason and not decision:
        raise typer.BadParameter("a reason goes with --decision")
    parameters = {
        "environment": environment,
        "release_id": release_id,
        "decision": decision or "",
        "reason": reason,
    }
    server, view = _run("release-recovery", environment, parameters, quiet=as_json)
    _end(server, environment, view, plan=False, as_json=as_json)


def waivers(given: Sequence[str]) -> dict[str, str]:
    """Given texts ITEM=REASON, return item → reason. Raise typer.BadParameter for one without a reason, or an item that is there twice."""
    found: dict[str, str] = {}
    for text in given:
        item, _, reason = (part.strip() for part in text.partition("="))
        if not item or not reason:
            raise typer.BadParameter(f"{text!r} is not ITEM=REASON", param_hint="--skip")
        if item in found:
            raise typer.BadParameter(f"{item} is there twice", param_hint="--skip")
        found[item] = reason
    return found


def _run(flow: str, environment: str, parameters: dict[str, Any], *, quiet: bool) -> tuple[Server, RunView]:
    server = find_server(environment)
    with server.client() as client:
        ensure_releasing(server, client, environment, quiet=quiet)
    return server, run_flow(server, flow, environment, parameters, quiet=quiet)


def _end(server: Server, environment: str, view: RunView, *, plan: bool, as_json: bool) -> None:
    """End the command; of a dry run with its plan, as the run showed it."""
    if not plan:
        end_command(server, environment, view, as_json=as_json)
    with server.client() as client:
        text = redact(read_markdown(client, view.run_id, "release-plan"))
    if text and not as_json:
        console.print(Markdown(text) if console.is_terminal else Text(text), soft_wrap=True)
    end_command(server, environment, view, as_json=as_json, more={"plan": text})
