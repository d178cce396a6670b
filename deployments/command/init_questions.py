"""What `nightshift init` asks: a question for each of the answers, in the order in which a person knows them, and a secret only to put it into a file."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import available_timezones

import typer

from core.environment_keys import Path as KeyPath
from core.errors import ConfigurationError
from core.redaction import register_secret
from core.secret_reference import split_reference
from deployments.command.new_environment import KEYS_FOLDER, mistake_at, write_secret_file
from deployments.command.terminal import console

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


def ask_for(environment: str, given: dict[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Given an environment's name and what options gave, return the values of Answers' fields: those, else the defaults when quiet, else what is typed."""
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
    default = "" if quiet else f"{kept(environment)}.database-password"
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


def kept(environment: str) -> str:
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
    file = file_of(reference)
    if file is None or file.exists():
        return
    secret = typer.prompt(
        f"{what} to keep in {file} (not shown; Enter: put it there later)", "", hide_input=True, show_default=False
    )
    if secret:
        register_secret(secret)
        write_secret_file(file, secret)
        console.print(f"kept in {file}, readable by you alone", style="dim", soft_wrap=True)


def file_of(reference: str) -> Path | None:
    """The file that a reference names; None when it is of another kind."""
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
