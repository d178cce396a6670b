"""The files that `nightshift init` makes: the environment's TOML, the signing key, secrets that are kept in files, and entries in prefect.yaml."""

import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import yaml
from pydantic import ValidationError

from core.environment import Environment, Store
from core.environment_database import Database
from core.environment_keys import Path as KeyPath
from core.environment_mistakes import explain
from core.errors import ConfigurationError, PermanentError
from deployments.command.deploying import read_prefect_file

MOST_LINES = 15
KEYS_FOLDER = "~/.config/nightshift"
FIRST_LINE = "# Every key and its default: docs/environments.md"
# What an environment gets without being asked for: a backup that nobody proves is half of one. Their slugs and times.
SCHEDULED = {"nightly-backup": ("nightly", "0 2 * * *"), "dr-drill": ("daily", "0 4 * * *")}
NO_PLACE = "Free the disk or the folder's rights, then run it again"


@dataclass(frozen=True)
class Answers:
    """What was asked. Empty text: not given, so the default counts and no line is written."""

    environment: str
    bucket: str
    host: str
    name: str
    user: str
    database: str = "app"
    port: int = 5432
    password: str = ""
    region: str = ""
    prefix: str = ""
    endpoint_url: str = ""
    access_key_id: str = ""
    secret_access_key: str = ""
    signing_key: str = ""
    timezone: str = "UTC"

    def as_document(self) -> dict[str, Any]:
        """The keys of the file that differ from their defaults, as nested tables."""
        store = {
            key: getattr(self, key)
            for key in ("bucket", "region", "prefix", "endpoint_url", "access_key_id", "secret_access_key")
        }
        database = {key: getattr(self, key) for key in ("host", "port", "name", "user", "password")}
        top = {} if self.timezone == "UTC" else {"timezone": self.timezone}
        return {
            **top,
            "signing": {"key": self.signing_key},
            "store": _without_defaults(store, Store),
            "databases": {self.database: _without_defaults(database, Database)},
        }


def mistakes_in(answers: Answers) -> tuple[str, ...]:
    """Given all answers, return what is wrong with them as an environment, one sentence each."""
    return _mistakes(answers.environment, answers.as_document())


def mistake_at(path: KeyPath, value: object) -> str:
    """Given one answer's key path and value, return what is wrong with it on its own, or empty text."""
    sample = Answers("sample", "bucket", "host", "name", "user", signing_key="env:KEY").as_document()
    table: Any = sample
    for step in path[:-1]:
        table = table[step]
    table[path[-1]] = value
    found = [mistake for mistake in _mistakes("sample", sample) if mistake.startswith(".".join(map(str, path)))]
    return found[0] if found else ""


def rendered(answers: Answers) -> str:
    """Given answers, return the text of their TOML file: at most 15 lines."""
    document = answers.as_document()
    signing = document.pop("signing")
    store, databases = document.pop("store"), document.pop("databases")
    [(key, database)] = databases.items()
    blocks = [
        [*_lines(document), *_lines({"signing": signing}, dotted=True)],
        ["[store]", *_lines(store)],
        [f"[databases.{key}]", *_lines(database)],
    ]
    lines = [FIRST_LINE, *blocks[0], "", *blocks[1], "", *blocks[2]]
    if len(lines) > MOST_LINES:
        lines = [line for block in blocks for line in block]
    return "\n".join(lines) + "\n"


def zone_sentence(zone: str) -> str:
    """Given the time zone that the environment has got, return what is said of it: UTC is most often not chosen, but what a server is set to."""
    sentence = f"time zone {zone}: days, weeks and the nightly schedules are reckoned in it"
    return f"{sentence}. If yours is another, change it in that file and in prefect.yaml" if zone == "UTC" else sentence


def write_environment(file: Path, text: str) -> None:
    """Put the file there in one step, readable by all (it holds no secret). Raise PermanentError when the folder cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=file.parent, prefix=".", delete=False, encoding="utf-8") as draft:
            draft.write(text)
        Path(draft.name).chmod(0o644)
        Path(draft.name).replace(file)
    except OSError as error:
        raise PermanentError("write the environment", str(file), str(error.strerror), NO_PLACE) from error


def write_secret_file(file: Path, secret: str) -> None:
    """Put a secret into a new file that only its owner can read, in a folder of its own. Raise PermanentError when it is there or cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            opened.write(f"{secret}\n")
    except OSError as error:
        raise PermanentError("write a secret's file", str(file), str(error.strerror), NO_PLACE) from error


def make_signing_key(file: Path) -> bool:
    """Make a file with a new random key of 32 bytes unless one is there; return whether it was made. An existing key is never touched."""
    if file.exists():
        return False
    write_secret_file(file, secrets.token_hex(32))
    return True


def add_deployments(prefect_file: Path, environment: str, timezone: str) -> tuple[str, ...]:
    """Given prefect.yaml, add an environment's nightly backup and daily drill at its end, those that it does not have; return the flows that were added.

    The text is added to, not written anew, so that comments and anchors stay. Raise ConfigurationError when it is not laid out as expected.
    """
    text = prefect_file.read_text(encoding="utf-8")
    entries = read_prefect_file(prefect_file)["deployments"]
    missing = tuple(flow for flow in SCHEDULED if not any(_is_of(entry, flow, environment) for entry in entries))
    if not missing:
        return ()
    longer = "\n".join([text.rstrip() + "\n", *(deployment_entry(flow, environment, timezone) for flow in missing)])
    try:
        after = yaml.safe_load(longer)["deployments"][-len(missing) :]
    except yaml.YAMLError:
        after = []
    if [flow for flow, entry in zip(missing, after, strict=False) if _is_of(entry, flow, environment)] != [*missing]:
        raise ConfigurationError(
            f"add deployments for {environment}",
            str(prefect_file),
            f"the file does not end with the list `deployments:`, or lacks an anchor of {' and '.join(missing)}",
            "Add the entries by hand; those of the other environments show how",
        )
    write_environment(prefect_file, longer)
    return missing


def deployment_entry(flow: str, environment: str, timezone: str) -> str:
    """The entry of prefect.yaml for a flow of an environment that comes by its schedule."""
    slug, cron = SCHEDULED[flow]
    return (
        f"  - <<: *{flow}\n"
        f"    name: {environment}\n"
        f"    parameters: {{environment: {environment}}}\n"
        "    schedules:\n"
        f'      - {{slug: {slug}, cron: "{cron}", timezone: {timezone}}}\n'
    )


def _is_of(entry: dict[str, Any], flow: str, environment: str) -> bool:
    # Other flows have entries of the same name: a deployment is FLOW/ENVIRONMENT.
    same = entry.get("name") == environment and entry.get("parameters", {}).get("environment") == environment
    return same and str(entry.get("entrypoint", "")).endswith(f".{flow.replace('-', '_')}")


def _mistakes(environment: str, document: dict[str, Any]) -> tuple[str, ...]:
    try:
        Environment.model_validate({"name": environment, **document})
    except ValidationError as error:
        return explain(error, lambda _path: "")
    return ()


def _without_defaults(table: dict[str, Any], model: type[Store | Database]) -> dict[str, Any]:
    return {
        key: value
        for key, value in table.items()
        if value != "" and (model.model_fields[key].is_required() or value != model.model_fields[key].default)
    }


def _lines(table: dict[str, Any], *, dotted: bool = False) -> list[str]:
    if dotted:
        return [f"{name}.{line}" for name, inner in table.items() for line in _lines(inner)]
    return tomli_w.dumps(table).splitlines()
