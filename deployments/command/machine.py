"""`nightshift up`, `down` and `status`: the Prefect server of this machine with its worker and the webhooks' receiver, kept running (docs/operating.md)."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.table import Table
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.disk_room import is_full
from core.errors import ConfigurationError, PermanentError
from deployments.command.listening import host_and_port
from deployments.command.machine_listening import environments_that_listen, environments_unheard
from deployments.command.machine_stop import end_processes, stop
from deployments.command.terminal import console
from deployments.local.data_folder import CHECKOUT, DATA_VARIABLE, data_root, platform_folder
from deployments.local.ports import HOST, answers
from deployments.local.prefect_database import back_up, upgrade
from deployments.local.prefect_server import PREFERRED_PORT, prefect_environment
from deployments.local.prefect_template import use_template
from deployments.local.running import SERVER as KIND
from deployments.local.running import RunningPlatform, answers_socket
from deployments.local.server_folder import ServerFolder
from deployments.local.service import last_lines, log_tail
from deployments.local.supervised import MARK, SERVER, WORKER, Supervised, configuration, marked
from deployments.local.wellbeing import RUNNING, ailment, paused
from tasks.environments import FOLDER_VARIABLE, environments_folder
from tasks.spool import free_bytes

_READY_SECONDS = 300.0
_DATABASE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"
# What an operator sets of Prefect's own: addresses, retention, another database. Where the server is, and its password, are ours.
_KEPT = ("PREFECT_SERVER_", "PREFECT_UI_", "PREFECT_WORKER_", "PREFECT_EVENTS_", "PREFECT_REDIS_", "PREFECT_LOGGING_")

# Variables that name a folder, and where it is.
_PLACES = {FOLDER_VARIABLE: environments_folder, DATA_VARIABLE: data_root}


def up_command(
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="The server's port, on 127.0.0.1.")
    ] = PREFERRED_PORT,
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Where the receiver listens.")
    ] = "127.0.0.1:8088",
    proxies: Annotated[
        list[str] | None,
        typer.Option(
            "--proxy", metavar="ADDRESS", help="A proxy before the receiver (see webhook); may be given several times."
        ),
    ] = None,
    foreground: Annotated[
        bool,
        typer.Option(
            "--foreground", help="Become the supervisor, for systemd; without it, it goes on in the background."
        ),
    ] = False,
) -> None:
    """Start a Prefect server on 127.0.0.1, a worker and, where an environment listens to GitHub, its receiver; whatever of it dies is started again."""
    host_and_port("listen to GitHub", listen)
    folder = ServerFolder(platform_folder(KIND))
    folder.make()
    with folder.turn():
        runs = answers_socket(folder.socket)
        if not runs:
            _start(folder, port, listen, proxies or (), foreground=foreground)
    if runs:
        console.print(f"it runs already, from {folder.path}", soft_wrap=True)
    else:
        _wait_until_ready(folder)
    if not _show(folder):
        raise typer.Exit(1)


def down_command(
    wait: Annotated[
        int, typer.Option("--wait", min=0, help="Seconds that runs may still take before they are ended.")
    ] = 60,
) -> None:
    """End what `up` started and nothing else: the receiver, the worker once its runs have ended, the server. Runs that wait for a person go on waiting."""
    folder = ServerFolder(platform_folder(KIND))
    # What runs outlives its folder, if somebody removes that.
    with folder.turn() if folder.path.is_dir() else nullcontext():
        stop(folder, wait)


def status_command() -> None:
    """Say what of it does its work, and what is wrong with the rest. The exit code is 1 when anything is missing or does not answer."""
    folder = ServerFolder(platform_folder(KIND))
    if not answers_socket(folder.socket):
        left = len(marked(folder))
        found = f"its supervisor is gone; {left} processes of it go on, and nothing starts them again" if left else ""
        console.print(f"{found or 'nothing of it runs'}: make up", soft_wrap=True)
        raise typer.Exit(1)
    if not _show(folder):
        raise typer.Exit(1)


def _start(folder: ServerFolder, port: int, listen: str, proxies: Sequence[str], *, foreground: bool) -> None:
    """Start the supervisor with its programs, and say where they are. In the foreground this process becomes it."""
    _sweep(folder, port)
    api_url = f"http://{HOST}:{port}/api"
    environment = _environment(folder, api_url)
    listening, _ = environments_that_listen()
    receiver = ["--listen", listen, "--folder", str(folder.webhook)] if listening else None
    for proxy in proxies if receiver else ():
        receiver = [*(receiver or ()), "--proxy", proxy]
    _prepare_database(folder, environment)
    folder.configuration.write_text(configuration(folder, port, receiver))
    record = RunningPlatform(
        process_id=os.getpid(),
        ui_url=environment.get("PREFECT_UI_URL", api_url.removesuffix("/api")),
        api_url=api_url,
        auth_string=folder.auth_string(),
        variables={},
    )
    folder.write_record(record)
    command = [sys.executable, "-m", "supervisor.supervisord", "--configuration", str(folder.configuration)]
    if foreground:
        os.chdir(CHECKOUT)
        os.execve(command[0], [*command, "--nodaemon"], environment)  # noqa: S606 - our own arguments, and no shell
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise PermanentError(
            "start the supervisor",
            str(folder.path),
            last_lines(done.stdout + done.stderr),
            "See its log",
        )
    supervised = Supervised(folder)
    supervised.wait_until_listening()
    folder.write_record(record.model_copy(update={"process_id": supervised.pid}))


def _environment(folder: ServerFolder, api_url: str) -> dict[str, str]:
    auth_string = folder.auth_string()
    own = prefect_environment(folder.prefect_home, folder.temporary, api_url, auth_string, kept=_KEPT)
    # Its programs run in the checkout, wherever `up` was called: a relative path would lead them elsewhere.
    places = {name: str(place()) for name, place in _PLACES.items() if own.get(name)}
    return {
        **own,
        **places,
        "PREFECT_SERVER_API_AUTH_STRING": auth_string,
        # Done before anything starts, so that a failure is told, and on a copied database.
        "PREFECT_SERVER_DATABASE_MIGRATE_ON_START": "false",
        MARK: str(folder.path),
    }


def _sweep(folder: ServerFolder, port: int) -> None:
    """End servers and workers of a supervisor that was killed; runs go on. Raise ConfigurationError when somebody else has the port."""
    end_processes(marked(folder, runs=False))
    if answers(port):
        found = "another program listens there"
        raise ConfigurationError(
            "start the Prefect server",
            f"{HOST}:{port}",
            found,
            "Stop it, or take another port: nightshift up --port 4300",
        )


def _prepare_database(folder: ServerFolder, environment: Mapping[str, str]) -> None:
    if _DATABASE in environment:
        console.print(f"{_DATABASE} is set: copying that database is yours to do", soft_wrap=True)
    elif not folder.database.exists():
        if not use_template(folder.prefect_home):
            # SQLite fills an empty file, and keeps its rights.
            folder.database.touch(mode=0o600)
    else:
        console.print(f"Prefect's database copied to {back_up(folder)}", soft_wrap=True)
    upgrade(environment, folder.logs / "upgrade.log")


def _wait_until_ready(folder: ServerFolder) -> None:
    """Wait until server and receiver answer and the worker has told the server that it is there. What cannot start is told once, with the end of its log, and raises
    PermanentError."""
    dead: dict[str, str] = {}
    unwell: dict[str, str] = {}

    def waits() -> bool:
        unwell.clear()
        for one in Supervised(folder).programs():
            if one.state not in RUNNING:
                dead.setdefault(one.name, log_tail(one.log) or one.state)
            elif one.name not in dead and (wrong := ailment(one, folder)):
                unwell[one.name] = wrong
        return not dead.keys() & {SERVER, WORKER} and bool(unwell)

    console.print("starting; it takes some 30 seconds")
    try:
        Retrying(retry=retry_if_result(bool), stop=stop_after_delay(_READY_SECONDS), wait=wait_fixed(0.5))(waits)
    except RetryError as error:
        late = {name: f"not there within {_READY_SECONDS:.0f} s: {wrong}" for name, wrong in unwell.items()}
        raise _does_not_start(folder, late | dead) from error
    if dead:
        raise _does_not_start(folder, dead)


def _does_not_start(folder: ServerFolder, dead: Mapping[str, str]) -> PermanentError:
    found = "; ".join(f"{name} ended: {said}" for name, said in dead.items())
    step = "It is tried again, a second later each time. Mend it, then: make down, make up"
    return PermanentError("start all programs", str(folder.logs), found, step)


def _show(folder: ServerFolder) -> bool:
    """Print what runs and where, and what is wrong with it; return whether all of it does its work."""
    record = RunningPlatform.model_validate_json(folder.record.read_bytes())
    supervised = Supervised(folder)
    programs = supervised.programs()
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    wrong = {one.name: ailment(one, folder) for one in programs}
    for one in programs:
        process = f"process {one.pid}" if one.pid else ""
        table.add_row(one.name, ": ".join(filter(None, (process, wrong[one.name]))))
    table.add_row("Prefect UI", record.ui_url)
    table.add_row("sign in with", str(folder.path / "auth-string"))
    table.add_row("in a shell", f". {folder.client_variables}")
    table.add_row("logs", str(folder.logs))
    console.print(table)
    unheard, misread = environments_unheard(supervised)
    if unheard:
        found = (
            f"[webhook] is new in {', '.join(unheard)}, and no receiver runs: GitHub is not heard. make down, make up"
        )
        console.print(found, style="red", markup=False, soft_wrap=True)
    held = paused(folder)
    if held:
        console.print(held, style="red", markup=False, soft_wrap=True)
    free = free_bytes(folder.path)
    if is_full(free):
        console.print(
            f"{free >> 20} MiB are free for {folder.path}: the server cannot save what happens. Make room",
            style="red",
            soft_wrap=True,
        )
    return not is_full(free) and not unheard and not misread and not held and not any(wrong.values())
