"""Makes docs/environments.md from the records that read the files: `python -m deployments.environment_reference` (--check: only say whether it is current)."""

import sys
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from core.environment import Backups, Environment, Objectives, Retention, Signing, Store
from core.environment_checks import (
    BaselineCheck,
    BaselineQuery,
    CapacityCheck,
    CiCheck,
    DocumentationCheck,
    MonitoringCheck,
    NamedSecret,
    PostureCheck,
    ReleaseChecks,
    ScanCheck,
    SecretsCheck,
    StagingCheck,
)
from core.environment_database import Database, DigestRule
from core.environment_frontend import Frontend
from core.environment_gates import Gates
from core.environment_keys import NOT_IN_THE_FILE, Place, plain_type
from core.environment_migration import Migration
from core.environment_release import Registry, Release, Workload
from core.environment_restore import AppState, BackupCopy, Drill, Invariant, Restore, RestoreServer, ScratchPod
from core.environment_traffic import LoadBalancer, Traffic
from core.environment_watch import Incident, Watch
from core.environment_watch_alerts import WatchAlerts
from core.environment_watch_grafana import WatchGrafana
from core.environment_watch_health import WatchHealth
from core.environment_watch_logs import WatchLogs
from core.environment_watch_probes import WatchProbes
from core.environment_webhook import Webhook, WebhookGitHub, WebhookRepository, WebhookTrigger
from deployments.command.new_environment import Answers, rendered

PAGE = Path(__file__).resolve().parent.parent / "docs" / "environments.md"

EXAMPLE = Answers(
    environment="production",
    host="db.example.com",
    name="platform",
    user="nightshift_backup",
    password="env:BACKUP_PASSWORD",  # noqa: S106 - a reference
    bucket="example-backups",
    region="eu-central-1",
    signing_key="file:~/.config/nightshift/production.signing-key",
    timezone="Europe/Berlin",
)

TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("At the top of the file", Environment),
    ("[store]", Store),
    ("[signing]", Signing),
    ("[databases.NAME]", Database),
    ("[[databases.NAME.digest_rules]]", DigestRule),
    ("[retention]", Retention),
    ("[objectives]", Objectives),
    ("[backups]", Backups),
    ("[servers.NAME]", RestoreServer),
    ("[restore]", Restore),
    ("[drill]", Drill),
    ("[[drill.invariants]]", Invariant),
    ("[drill.pod]", ScratchPod),
    ("[copy_store]", BackupCopy),
    ("[app_state]", AppState),
    ("[release]", Release),
    ("[[release.workloads]]", Workload),
    ("[release.registry]", Registry),
    ("[release.migration]", Migration),
    ("[release.traffic]", Traffic),
    ("[release.traffic.alb]", LoadBalancer),
    ("[release.gates]", Gates),
    ("[release.frontend]", Frontend),
    ("[release.checks]", ReleaseChecks),
    ("[release.checks.ci]", CiCheck),
    ("[release.checks.scan]", ScanCheck),
    ("[release.checks.secrets]", SecretsCheck),
    ("[[release.checks.secrets.named]]", NamedSecret),
    ("[release.checks.monitoring]", MonitoringCheck),
    ("[release.checks.baseline]", BaselineCheck),
    ("[[release.checks.baseline.queries]]", BaselineQuery),
    ("[release.checks.capacity]", CapacityCheck),
    ("[release.checks.documentation]", DocumentationCheck),
    ("[release.checks.staging]", StagingCheck),
    ("[release.checks.posture]", PostureCheck),
    ("[watch]", Watch),
    ("[[watch.incidents]]", Incident),
    ("[watch.logs]", WatchLogs),
    ("[watch.alerts]", WatchAlerts),
    ("[watch.health]", WatchHealth),
    ("[watch.probes]", WatchProbes),
    ("[watch.grafana]", WatchGrafana),
    ("[webhook]", Webhook),
    ("[webhook.repositories.NAME]", WebhookRepository),
    ("[[webhook.repositories.NAME.triggers]]", WebhookTrigger),
    ("[webhook.github]", WebhookGitHub),
)

INTRODUCTION = """\
# Environments

<!-- Made by `python -m deployments.environment_reference` from core/environment.py. Edit there. -->

An environment is one file, `deployments/environments/NAME.toml`: its databases, its bucket, its rules. This is all that backups need:

```toml
{example}```

`nightshift init NAME` asks for these lines and writes them; `nightshift check NAME` reads the file, fetches every secret and tries every connection,
and says what to do about each that fails. Everything else has a default or is off. A Prefect server that is away, or not named, is a warning: what
is checked does not need it; one that refuses the password is a failure. One that answers is asked whether nights begin without a person: a flow that the
tables promise and that is not deployed, is paused or has no schedule switched on is a warning, and so is a work pool or queue that is paused, or a pool
without a worker. A disk of this machine with less than 64 MiB free is a failure; less than `restore.spool_reserve_mib` where restores and drills write, or
512 MiB for the data of `make up`, is a warning.

- NAME has up to 40 lower-case letters, digits and `-`, and starts with a letter. So do the names of databases.
- The files lie in `deployments/environments/`, or in the folder that the variable `NIGHTSHIFT_ENVIRONMENTS` names. A run reads the file where its worker
  runs: set the variable (an absolute path) for the worker too (`make up` passes on what is set in its terminal), and have the same file there.
- What `make up`, `make try` and `make demo` write (where they answer, how to sign in, logs, Prefect's database, the S3 stand-in's temporary files) lies in the
  folder `.nightshift` of the checkout, or in the one that the variable `NIGHTSHIFT_DATA` names. Every `nightshift` command looks there for a platform that runs: set
  it in each terminal, or in none.
- A wrong file fails before anything is touched. The message names the file, the key, what was found and what is allowed; an unknown key is a mistake.

## Secrets

A secret never stands in the file. Where one is needed, the file says where it is found:

| reference | the secret is | fails when |
|---|---|---|
| `env:NAME` | the variable NAME of the worker's process | it is not set |
| `file:PATH` | the content of a file, without the newline at its end; PATH begins with `/` or `~` | \
others can read it (`chmod 600`; for a mounted Kubernetes Secret `defaultMode: 0440`) |
| `prefect-block:NAME` | the value of a Secret block of the Prefect server | the server has no such block |
| `aws-secretsmanager:ID#KEY` | KEY of a JSON secret; without `#KEY` its whole text. ID is a name or an ARN, which brings its region along | \
the role lacks `secretsmanager:GetSecretValue` |

- References are resolved by the process that needs them, at the moment of use: on the worker during a run, on your machine for
  `nightshift check`. A secret that was rotated is found at the next run.
- Secrets are masked in logs, errors, artifacts and reports, and are never arguments of a process. One shorter than 4 characters cannot be masked;
  `check` warns of it.
- Anyone who can use the Prefect API can read its blocks. Prefer AWS Secrets Manager or files where that matters.
- What looks like a secret in place of a reference is refused, and not repeated in the message.

**The signing key** signs every manifest and report. Without it no backup can be verified; whoever has it can forge one. So it is never in the bucket, and a copy of it
belongs somewhere outside of the bucket and of the worker. To change it, put the old one into `previous_keys`: the first key signs, all are accepted when reading.

    openssl rand -hex 32                     # hmac-sha256: one shared key
    openssl genpkey -algorithm ed25519       # algorithm = "ed25519", for all keys of an environment: a PEM private key; in previous_keys its public half is enough

## Overriding a key

The variable `NIGHTSHIFT_NAME__TABLE__KEY` overrides a key of NAME.toml. Two underscores stand for the dots; `-` becomes `_`; a list or table is given as
JSON; empty takes an optional value away.

    NIGHTSHIFT_PRODUCTION__STORE__BUCKET=another-bucket
    NIGHTSHIFT_EU_STAGING__DATABASES__APP__PORT=5433
    NIGHTSHIFT_PRODUCTION__DATABASES__APP__EXCLUDE_SCHEMAS='["auth", "storage"]'

A variable that overrides no key, a misspelt one say, is a mistake like one in the file. The variables must be set for the worker, not only in your shell.

## Time zones

`timezone` (an IANA name) says what a day, a week and a month are in the retention. The schedule's time zone is written in `prefect.yaml` beside its
cron line; `nightshift init` writes the same one to both. Nightly runs follow the clock on the wall, once a night: where 02:00 is skipped in spring the run starts an hour
earlier, and where it comes twice in autumn only the first counts. Everything that is recorded (backup ids, manifests, reports) is UTC.

## Every key

"required" means that the file does not load without it. A key that is left out has its default.
"""


def page() -> str:
    """The whole text of docs/environments.md."""
    parts = [INTRODUCTION.format(example=rendered(EXAMPLE))]
    parts += [_section(title, model) for title, model in TABLES]
    return "\n".join(parts)


def type_in_words(field: FieldInfo) -> str:
    """Given a field, return what may be written for it, as its author thinks of it: `text`, `1 to 16`, `one of "a", "b"`."""
    annotation = plain_type(field.annotation)
    words = _words(annotation, Place(field.annotation, field).is_secret)
    if annotation is int:
        low, high = (_bound(field, name) for name in ("ge", "le"))
        return f"{low} to {high}" if high is not None else f"{low} or more"
    return words


def _words(annotation: Any, secret: bool) -> str:
    if get_origin(annotation) is Literal:
        return "one of " + ", ".join(f'`"{choice}"`' for choice in get_args(annotation))
    if get_origin(annotation) is tuple:
        inner = plain_type(get_args(annotation)[0])
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return "tables, see below"
        numbers = inner is int
        return "list of references" if secret else "list of numbers" if numbers else "list of texts"
    if secret:
        return "reference"
    return {str: "text", int: "whole number", float: "number", bool: "`true` or `false`"}.get(
        annotation, "table, see below"
    )


def _bound(field: FieldInfo, name: str) -> int | None:
    return next((getattr(mark, name) for mark in field.metadata if hasattr(mark, name)), None)


def _section(title: str, model: type[BaseModel]) -> str:
    rows = [
        f"| `{name}` | {type_in_words(field)} | {_default(field)} | {_cell(field.description or '')} |"
        for name, field in model.model_fields.items()
        if not (model is Environment and name in NOT_IN_THE_FILE)
    ]
    heading = f"`{title}`" if title.startswith("[") else title
    about = (model.__doc__ or "").split("\n\n")[0].replace("\n", " ")
    return "\n".join([f"### {heading}", "", about, "", "| key | value | default | |", "|---|---|---|---|", *rows, ""])


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is PydanticUndefined or isinstance(default, NoneType) or default in ("", ()):
        return ""
    return f"`{str(default).lower()}`" if isinstance(default, bool) else f"`{default}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def main() -> int:
    """Write the page, or with --check say whether it is current; return the exit code."""
    text = page()
    if "--check" in sys.argv[1:]:
        current = PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text
        sys.stdout.write(f"{PAGE.name} is {'current' if current else 'out of date: make it anew'}\n")
        return 0 if current else 1
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"wrote {PAGE}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
