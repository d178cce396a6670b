"""Making sure that the server knows a flow's deployment for an environment, from prefect.yaml."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient

from core.errors import ConfigurationError, PermanentError
from deployments.command.automations import ensure_automations
from deployments.command.follow import deployment_exists
from deployments.command.prefect_api import Server, deploy_command, prefect_command, prefect_variables
from deployments.command.terminal import error_console
from deployments.local.data_folder import CHECKOUT
from deployments.local.service import last_lines
from tasks.environments import load_environment
from tasks.release_run import release_of

PREFECT_FILE = CHECKOUT / "prefect.yaml"
# A release may be started only where that is there which brings it to its end: so this comes first, and with its sweep.
RECOVERY = "release-recovery"
RELEASING = (RECOVERY, "release", "rollback")
# Where there is a table [watch]: a release makes its ticks on the first of them, which has a sweep of its own.
WATCH = "post-deploy-watch"
WATCHING = (WATCH, "watch-sign-off")


def ensure_releasing(server: Server, client: SyncPrefectClient, environment: str, *, quiet: bool) -> None:
    """Deploy all that releases of an environment need, and make the automations, as far as the server does not have them."""
    settings = load_environment(environment)
    release_of(settings)
    for flow in (*RELEASING, *(WATCHING if settings.watch is not None else ())):
        ensure_deployment(server, client, flow, environment, quiet=quiet)
    ensure_automations(client)


def ensure_deployment(server: Server, client: SyncPrefectClient, flow: str, environment: str, *, quiet: bool) -> None:
    """Deploy FLOW/ENVIRONMENT when the server does not know it yet: as prefect.yaml says, or without a schedule where it says nothing of this environment.

    Raise ConfigurationError when the environment's file is wrong, PermanentError when the deployment is refused.
    """
    if deployment_exists(client, f"{flow}/{environment}"):
        return
    load_environment(environment)
    document, scheduled = deployment_file(read_prefect_file(PREFECT_FILE), flow, environment)
    with tempfile.TemporaryDirectory(prefix="nightshift-") as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        _deploy(server, file, environment)
    if not quiet:
        by = (
            "as prefect.yaml says"
            if scheduled
            else "with its sweep, and nothing else that prefect.yaml would say"
            if flow in {RECOVERY, WATCH}
            else "to be run by hand or through the API"
            if flow in {*RELEASING, *WATCHING}
            else "without a schedule: for one, give it an entry in prefect.yaml and run " + deploy_command(environment)
        )
        error_console.print(f"deployed {flow}/{environment}, {by}", style="dim")


def read_prefect_file(file: Path) -> dict[str, Any]:
    """Given prefect.yaml, return what stands there. Raise ConfigurationError when it is no YAML, as in the middle of a conflict, or holds something else."""
    try:
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        found, mark = "it is no YAML", getattr(error, "problem_mark", None)
        found += f": line {mark.line + 1}" if mark is not None else ""
    else:
        if isinstance(document, dict) and isinstance(document.get("deployments", []), list):
            return {"deployments": [], **document}
        found = "it is not laid out as expected, with a list `deployments:`"
    raise ConfigurationError(
        "read the deployments",
        str(file),
        found,
        "Mend it; after a git pull it may hold a conflict: docs/operating.md, Upgrade",
    )


def deployment_file(document: dict[str, Any], flow: str, environment: str) -> tuple[dict[str, Any], bool]:
    """Given prefect.yaml as read, return one that holds this deployment only, and whether the file itself has it.

    An environment that the file does not have gets another one's entry of the same flow, without its schedules; release-recovery and post-deploy-watch keep their
    own, since a release without them would be left in the middle, or unwatched. Raise ConfigurationError when there is none.
    """
    entrypoint_end = f".{flow.replace('-', '_')}"
    entries = [
        entry for entry in document.get("deployments", ()) if str(entry.get("entrypoint", "")).endswith(entrypoint_end)
    ]
    if not entries:
        raise ConfigurationError(f"deploy {flow}/{environment}", str(PREFECT_FILE), f"it has no deployment of {flow}")
    own = next((entry for entry in entries if entry["name"] == environment), None)
    entry = own or _for_environment(entries[0], environment, keep_schedules=flow in {RECOVERY, WATCH})
    return {**document, "deployments": [entry]}, bool(own)


def _for_environment(entry: dict[str, Any], environment: str, *, keep_schedules: bool) -> dict[str, Any]:
    """Another environment's entry, made this one's: in name, parameters and what its triggers match."""
    model = entry["name"]

    def renamed(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: renamed(one) for key, one in value.items()}
        if isinstance(value, list):
            return [renamed(one) for one in value]
        return environment if value == model else value

    triggers = [
        {**renamed(trigger), "name": trigger["name"].replace(model, environment, 1)}
        for trigger in entry.get("triggers", ())
    ]
    return {
        **entry,
        "name": environment,
        "parameters": {**entry.get("parameters", {}), "environment": environment},
        "schedules": entry["schedules"] if keep_schedules else [],
        **({"triggers": triggers} if triggers else {}),
    }


def _deploy(server: Server, file: Path, environment: str) -> None:
    try:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "prefect",
                "--no-prompt",
                "deploy",
                "--prefect-file",
                str(file),
                "--name",
                environment,
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            cwd=CHECKOUT,
            env=prefect_variables(server),
            timeout=180,
        )
    except subprocess.TimeoutExpired as error:
        raise PermanentError(
            f"deploy {environment}", server.api_url, "prefect deploy did not end within 180 s"
        ) from error
    if done.returncode != 0:
        raise PermanentError(
            f"deploy {environment}",
            server.api_url,
            last_lines(done.stdout + done.stderr, 6),
            f"Make the work pool once: {prefect_command('work-pool create nightshift --type process')}",
        )
