"""`nightshift init ENV`: asks what an environment needs for backups, writes its file, and looks whether it is ready."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from core.checks import Check, failed_checks
from core.errors import ConfigurationError
from deployments.command.check import show_checks
from deployments.command.deploying import PREFECT_FILE
from deployments.command.init_questions import ask_for, file_of, kept
from deployments.command.new_environment import (
    SCHEDULED,
    Answers,
    add_deployments,
    deployment_entry,
    make_signing_key,
    mistakes_in,
    rendered,
    write_environment,
    zone_sentence,
)
from deployments.command.server_probes import SERVER_CHECK
from deployments.command.terminal import EXIT_NOT_WELL, console
from tasks.environments import environment_file, load_environment
from tasks.log_redaction import install_log_redaction


def init_command(  # noqa: PLR0917 - typer reads the options from the signature
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Name of the new environment: lower-case letters, digits, '-'.")
    ],
    host: Annotated[str | None, typer.Option(help="Database host. A direct connection, not a pooler.")] = None,
    port: Annotated[int | None, typer.Option(help="Database port.")] = None,
    name: Annotated[str | None, typer.Option(help="Database name.")] = None,
    user: Annotated[str | None, typer.Option(help="Role to back up with.")] = None,
    password: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="Where the password is found; empty: none.")
    ] = None,
    database: Annotated[str, typer.Option(help="What nightshift calls this database.")] = "app",
    bucket: Annotated[str | None, typer.Option(help="S3 bucket; must exist.")] = None,
    region: Annotated[str | None, typer.Option(help="AWS region of the bucket.")] = None,
    prefix: Annotated[str | None, typer.Option(help="Folder in the bucket; empty: the environment's name.")] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="Address of an S3 service other than AWS; empty: AWS.")
    ] = None,
    access_key_id: Annotated[
        str | None,
        typer.Option(metavar="REFERENCE", help="Where the access key's id is found; empty: AWS' default chain."),
    ] = None,
    secret_access_key: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="Where the secret access key is found.")
    ] = None,
    signing_key: Annotated[
        str | None, typer.Option(metavar="REFERENCE", help="Where the signing key is found; empty: a new one is made.")
    ] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA time zone of the schedule.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Ask nothing; defaults for what is not given.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the environment's file if there is one; a copy is kept.")
    ] = False,
    deployment: Annotated[bool, typer.Option(help="Add the nightly backup to prefect.yaml.")] = True,
    check: Annotated[bool, typer.Option(help="Run `nightshift check` at the end.")] = True,
) -> None:
    """Make an environment: asks for database, bucket and where the secrets are, writes at most 15 lines of TOML, and checks them."""
    install_log_redaction()
    file = environment_file(environment)
    if file.exists() and not force:
        raise ConfigurationError(
            f"make environment {environment}", str(file), "the file is there already", "Edit it, or say --force"
        )
    given = {
        "host": host,
        "port": port,
        "name": name,
        "user": user,
        "password": password,
        "bucket": bucket,
        "endpoint_url": endpoint,
        "region": region,
        "prefix": prefix,
        "access_key_id": access_key_id,
        "secret_access_key": secret_access_key,
        "timezone": timezone,
    }
    answers = Answers(
        environment=environment,
        database=database,
        signing_key=signing_key or f"{kept(environment)}.signing-key",
        **ask_for(environment, given, quiet=yes),
    )
    mistakes = mistakes_in(answers)
    if mistakes:
        raise ConfigurationError(f"make environment {environment}", "the answers", "; ".join(mistakes))
    _write(answers, file, new_key=not signing_key)
    scheduled = deployment and _deploy(answers)
    checks = _checked(environment) if check else None
    _tell_what_is_next(environment, checks, scheduled=scheduled)
    raise typer.Exit(EXIT_NOT_WELL if checks and failed_checks(checks) else 0)


def _write(answers: Answers, file: Path, *, new_key: bool) -> None:
    key_file = file_of(answers.signing_key)
    if new_key and key_file is not None:
        if make_signing_key(key_file):
            console.print(
                f"made {key_file}: the key that signs backups. Keep a copy outside of the bucket and of this machine:\n"
                "without it no backup can be verified, and whoever has it can forge one.",
                soft_wrap=True,
            )
        else:
            console.print(f"signing with {key_file}, which was there", soft_wrap=True)
    if file.exists():
        before = file.with_name(f"{file.name}.before")
        shutil.copy2(file, before)
        console.print(f"kept what stood in {file.name} as {before}", soft_wrap=True)
    write_environment(file, rendered(answers))
    console.print(f"wrote {file}", soft_wrap=True)
    console.print(zone_sentence(answers.timezone), soft_wrap=True)


def _deploy(answers: Answers) -> bool:
    """Give the environment's nightly backup and daily drill their entries in prefect.yaml, and return whether it has them now."""
    try:
        for flow in add_deployments(PREFECT_FILE, answers.environment, answers.timezone):
            console.print(f"added {flow}/{answers.environment} to {PREFECT_FILE}", soft_wrap=True)
    except (OSError, ConfigurationError) as error:
        # The image's checkout may be read-only: the environment works all the same, without a schedule.
        entries = "\n".join(deployment_entry(flow, answers.environment, answers.timezone) for flow in SCHEDULED)
        console.print(
            f"{PREFECT_FILE} was left alone ({error}); for schedules of its own, add\n{entries}", soft_wrap=True
        )
        return False
    return True


def _checked(environment: str) -> list[Check]:
    console.print()
    return show_checks(load_environment(environment))


def _tell_what_is_next(environment: str, checks: list[Check] | None, *, scheduled: bool) -> None:
    """Print what is left to do, nothing that was just done. `checks` is None when none were run, `scheduled` whether prefect.yaml has the environment."""
    steps = []
    if checks is None or not any(check.name == SERVER_CHECK and check.state == "passed" for check in checks):
        steps += [
            ("make up", "a Prefect server and a worker on this machine, kept running until `make down`"),
            ("", "(or your own server: export PREFECT_API_URL=https://HOST/api)"),
        ]
    if checks is None:
        steps.append((f"nightshift check {environment}", "whether all that it names is there"))
    elif failed_checks(checks):
        steps.append((f"nightshift check {environment}", "once what failed above is mended"))
    schedule = "; from then on the server has its nightly schedule" if scheduled else ""
    steps.append((f"nightshift backup {environment}", f"the first backup{schedule}"))
    width = max(len(command) for command, _ in steps)
    lines = [f"  {command:{width}}   {what}" for command, what in steps]
    console.print("\nNext:", *lines, sep="\n", soft_wrap=True)
