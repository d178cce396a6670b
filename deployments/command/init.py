"""`nightshift init ENV`: asks what an environment needs for backups, writes its file, and looks whether it is ready."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import available_timezones

import typer

from core.checks import Check, failed_checks
from core.environment_keys import Path as KeyPath
from core.errors import ConfigurationError
from core.redaction import register_secret
from core.secret_reference import split_reference
from deployments.command.check import show_checks
from deployments.command.deploying import PREFECT_FILE
from deployments.command.new_environment import (
    KEYS_FOLDER,
    SCHEDULED,
    Answers,
    add_deployments,
    deployment_entry,
    make_signing_key,
    mistake_at,
    mistakes_in,
    rendered,
    write_environment,
    write_secret_file,
    zone_sentence,
)
from deployments.command.probes import SERVER_CHECK
from deployments.command.terminal import EXIT_NOT_WELL, console
from tasks.environments import environment_file, load_environment
from tasks.log_redaction import install_log_redaction

FOUR_KINDS = """
A secret never stands in the file, only where it is found:
  env:NAME                     a variable of the worker's process
  file:PATH                    a file that only the worker can read
  prefect-block:NAME           a Secret block of the Prefect server
  aws-secretsmanager:ID#KEY    a key of an AWS secret
"""
ROLE_HINT = """
If there is no such role yet:
  CREATE ROLE {user} LOGIN PASSWORD '…';  GRANT pg_read_all_data TO {user};
and where tables have row security:  ALTER ROLE {user} BYPASSRLS;"""


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
    force: Annotated[bool, typer.Option("--force", help="Replace the environment's file if there is one.")] = False,
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
        signing_key=signing_key or f"{_kept(environment)}.signing-key",
        **_answers(environment, given, quiet=yes),
    )
    mistakes = mistakes_in(answers)
    if mistakes:
        raise ConfigurationError(f"make environment {environment}", "the answers", "; ".join(mistakes))
    _write(answers, file, new_key=not signing_key)
    scheduled = deployment and _deploy(answers)
    checks = _checked(environment) if check else None
    _tell_what_is_next(environment, checks, scheduled=scheduled)
    raise typer.Exit(EXIT_NOT_WELL if checks and failed_checks(checks) else 0)


@dataclass(frozen=True)
class _Question:
    """What is asked for one of Answers' fields. `default` None: there must be an answer; `keep`: a secret that a file may be made for."""

    field: str
    text: str
    path: KeyPath
    default: object = None
    option: str = ""
    keep: str = ""

    def ask(self, given: object, *, quiet: bool) -> Any:
        """Return the option's value, else the default when quiet, else what is typed: asked again until it does."""
        option = self.option or f"--{self.field.replace('_', '-')}"
        if given is not None:
            return _accept(self.path, option, str(given))
        if quiet and self.default is None:
            raise ConfigurationError("make the environment", "options", f"{option} is missing", "It has no default")
        if quiet:
            return self.default
        return typer.prompt(
            self.text,
            default=self.default,
            show_default=self.default != "",
            value_proc=lambda text: _accept(self.path, "", str(text)),  # a default comes as it is
        )


def _answers(environment: str, given: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    answers: dict[str, Any] = {}

    def ask(question: _Question) -> None:
        value = answers[question.field] = question.ask(given[question.field], quiet=quiet)
        if question.keep and not quiet:
            _offer_to_keep(question.keep, value)

    if not quiet:
        console.print(f"A new environment, {environment}. Enter takes what stands in brackets.\n")
    for question in _database_questions(quiet=quiet):
        ask(question)
    if not quiet:
        console.print(ROLE_HINT.format(user=answers["user"]), FOUR_KINDS, sep="\n", style="dim", soft_wrap=True)
    ask(_password_question(environment, quiet=quiet))
    for question in _bucket_questions():
        ask(question)
    if answers["access_key_id"] or given["secret_access_key"]:
        ask(_SECRET_KEY_QUESTION)
    ask(_Question("timezone", "Time zone of the nightly schedule", ("timezone",), machine_timezone()))
    return answers


def _database_questions(*, quiet: bool) -> list[_Question]:
    return [
        _Question("host", "Database host", (*_DATABASE, "host"), None if quiet else "localhost"),
        _Question("port", "Database port", (*_DATABASE, "port"), 5432),
        _Question("name", "Database name", (*_DATABASE, "name")),
        _Question("user", "Role to back up with", (*_DATABASE, "user"), "nightshift_backup"),
    ]


def _password_question(environment: str, *, quiet: bool) -> _Question:
    default = "" if quiet else f"{_kept(environment)}.database-password"
    text = "Where the role's password is found ('none' for none)"
    return _Question("password", text, (*_DATABASE, "password"), default, keep="Password")


def _bucket_questions() -> list[_Question]:
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    own = "this machine's role, profile or AWS_ variables"
    return [
        _Question("bucket", "S3 bucket (must exist)", ("store", "bucket")),
        _Question("endpoint_url", "Address of S3 (Enter: AWS)", ("store", "endpoint_url"), "", option="--endpoint"),
        _Question("region", "Region of the bucket", ("store", "region"), region),
        _Question("prefix", "Folder in the bucket (Enter: the environment's name)", ("store", "prefix"), ""),
        _Question(
            "access_key_id",
            f"Where the access key's id is found (Enter: {own})",
            ("store", "access_key_id"),
            "",
            keep="Access key id",
        ),
    ]


_DATABASE: KeyPath = ("databases", "app")
_SECRET_KEY_QUESTION = _Question(
    "secret_access_key", "Where the secret access key is found", ("store", "secret_access_key"), keep="Secret key"
)


def _kept(environment: str) -> str:
    """How references to the files that init keeps secrets in begin."""
    return f"file:{KEYS_FOLDER}/{environment}"


def _accept(path: KeyPath, option: str, text: str) -> Any:
    """Given a key's path and an answer, return its value. Say why when it does not do; a secret in place of a reference is not repeated.

    Raise ConfigurationError for an option's value, typer.BadParameter (which asks again) for what was typed.
    """
    value: Any = "" if text == "none" else text.strip()
    if path[-1] == "port" and text.isascii() and text.isdigit():
        value = int(text)
    # The store's two keys are only right together, so each is looked at as a reference alone.
    mistake = _reference_mistake(value) if path[-1] in _PAIR else mistake_at(path, value)
    if not mistake:
        return value
    if option:
        raise ConfigurationError("make the environment", option, mistake)
    raise typer.BadParameter(mistake)


_PAIR = frozenset({"access_key_id", "secret_access_key"})


def _reference_mistake(text: str) -> str:
    try:
        if text:
            split_reference(text)
    except ValueError as error:
        return str(error)
    return ""


def _offer_to_keep(what: str, reference: str) -> None:
    """When a reference names a file that is not there, offer to take the secret, unseen, and put it there."""
    file = _file_of(reference)
    if file is None or file.exists():
        return
    secret = typer.prompt(
        f"{what} to keep in {file} (not shown; Enter: put it there later)", "", hide_input=True, show_default=False
    )
    if secret:
        register_secret(secret)
        write_secret_file(file, secret)
        console.print(f"kept in {file}, readable by you alone", style="dim", soft_wrap=True)


def _file_of(reference: str) -> Path | None:
    kind, _, place = reference.partition(":")
    return Path(place).expanduser() if kind == "file" else None


_UTC_BY_OTHER_NAMES = frozenset({"Etc/UTC", "Etc/UCT", "Etc/Universal", "Etc/Zulu", "UCT", "Universal", "Zulu"})


def machine_timezone() -> str:
    """This machine's IANA time zone: TZ, or where /etc/localtime leads; UTC when neither tells."""
    candidates = [os.environ.get("TZ", "").removeprefix(":")]
    with suppress(OSError):
        candidates.append(str(Path("/etc/localtime").readlink()).partition("zoneinfo/")[2])
    zone = next((zone for zone in candidates if zone in available_timezones()), "UTC")
    return "UTC" if zone in _UTC_BY_OTHER_NAMES else zone


def _write(answers: Answers, file: Path, *, new_key: bool) -> None:
    key_file = _file_of(answers.signing_key)
    if new_key and key_file is not None:
        if make_signing_key(key_file):
            console.print(
                f"made {key_file}: the key that signs backups. Keep a copy outside of the bucket and of this machine:\n"
                "without it no backup can be verified, and whoever has it can forge one.",
                soft_wrap=True,
            )
        else:
            console.print(f"signing with {key_file}, which was there", soft_wrap=True)
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
