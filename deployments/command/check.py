"""`nightshift check ENV`: reads the environment's file, fetches every secret and tries every connection; one line each, with what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
from rich.text import Text

from core.checks import Check, failed_checks
from core.environment import Environment
from core.errors import ConfigurationError
from core.units import counted
from deployments.command.prefect_api import find_server
from deployments.command.probes import probes_of, run_probes
from deployments.command.terminal import EXIT_NOT_WELL, EXIT_USAGE, console, fail, print_json
from tasks.environments import environment_file, load_environment
from tasks.log_redaction import install_log_redaction

SIGNS = {"passed": ("✔", "green"), "warning": ("!", "yellow"), "failed": ("✘", "red")}


def check_command(
    environment: Annotated[
        str, typer.Argument(metavar="ENV", help="Environment: the name of its file, without .toml.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document instead of lines.")] = False,
) -> None:
    """Look whether an environment is ready: its file, its secrets, its bucket, its databases, the Prefect server, and for releases the cluster and the registry.

    Exit code 0: ready (warnings may be left); 1: something failed; 2: the file is wrong. Nothing is changed but a probe object in the bucket.
    """
    install_log_redaction()
    try:
        loaded = load_environment(environment)
    except ConfigurationError as error:
        if not as_json:
            fail(error)
        wrong = Check(name="environment file", state="failed", found=error.found, next_step=error.next_step)
        print_json(as_document(environment, [wrong]))
        raise typer.Exit(EXIT_USAGE) from error
    checks = list(run_checks(loaded)) if as_json else show_checks(loaded)
    if as_json:
        print_json(as_document(environment, checks))
    raise typer.Exit(EXIT_NOT_WELL if failed_checks(checks) else 0)


def run_checks(environment: Environment) -> Iterator[Check]:
    """Given an environment, yield every check as it is known; a failed one does not keep the others from being tried."""
    databases = ", ".join(environment.databases)
    file = environment_file(environment.name)
    yield Check(name="environment file", state="passed", found=f"{file}; databases: {databases}")
    with _server_settings(environment.name):
        for checks in run_probes(probes_of(environment)):
            yield from checks


def show_checks(environment: Environment) -> list[Check]:
    """Run the checks of an environment, print a line for each, then what they come to; return them."""
    checks = []
    for check in run_checks(environment):
        console.print(line_of(check), soft_wrap=True)
        checks.append(check)
    failed = len(failed_checks(checks))
    warned = sum(check.state == "warning" for check in checks)
    result = f"{environment.name} is not ready: {failed} failed" if failed else f"{environment.name} is ready"
    console.print(f"{result}, {counted(warned, 'warning')}" if warned else result)
    return checks


def line_of(check: Check) -> Text:
    """Given a check, return its line: sign, name, what was found, and what to do when it is not well."""
    sign, colour = SIGNS[check.state]
    if not console.encoding.startswith("utf"):
        sign = check.state
    line = Text.assemble((sign, colour), " ", (check.name, "bold"), "  ", check.found)
    if check.next_step and check.state != "passed":
        arrow = "→" if console.encoding.startswith("utf") else "->"
        line.append(f" {arrow} {check.next_step}")
    return line


def as_document(environment: str, checks: list[Check]) -> dict[str, object]:
    """The result for scripts."""
    return {
        "environment": environment,
        "ready": not failed_checks(checks),
        "checks": [check.model_dump() for check in checks],
    }


@contextmanager
def _server_settings(environment: str) -> Iterator[None]:
    """Have prefect-block references go to the same server as the commands: the platform on this machine, where none is configured."""
    try:
        server = find_server(environment)
    except ConfigurationError:
        server = None
    if server is None or server.platform is None:
        yield
        return
    with temporary_settings({PREFECT_API_URL: server.api_url, PREFECT_API_AUTH_STRING: server.platform.auth_string}):
        yield
