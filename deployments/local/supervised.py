"""The programs of this machine's server, kept running by supervisord (supervisord.org): its configuration, and what is asked of it over its socket."""

import configparser
import io
import shlex
import sys
import xmlrpc.client
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from supervisor.xmlrpc import SupervisorTransport
from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from core.errors import PermanentError
from deployments.local import after_server
from deployments.local.data_folder import CHECKOUT
from deployments.local.ports import HOST
from deployments.local.prefect_server import WORK_POOL
from deployments.local.running import answers_socket
from deployments.local.server_folder import ServerFolder
from deployments.local.service import log_tail

SERVER, WORKER, RECEIVER = "prefect-server", "prefect-worker", "webhook"
# As the server knows the worker.
WORKER_NAME = "machine"
# In the environment of everything that `up` starts, with the folder's path: by it `down` finds what outlived its parent.
MARK = "NIGHTSHIFT_SERVER_FOLDER"
RUN = "PREFECT__FLOW_RUN_ID"


@dataclass(frozen=True)
class Program:
    """A program as the supervisor has it. `pid` is 0 when it does not run; `state` is one of supervisord's (RUNNING, STARTING, BACKOFF, …)."""

    name: str
    state: str
    pid: int
    log: Path


def configuration(folder: ServerFolder, port: int, receiver: Sequence[str] | None) -> str:
    """Given the folder, the server's port and the receiver's arguments (None: no receiver), return supervisord's configuration. No secret is in it."""
    python = sys.executable
    patient = [python, "-m", after_server.__name__, python, "-m"]
    commands = {
        SERVER: [python, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(port)],
        WORKER: [
            *patient,
            "prefect",
            "worker",
            "start",
            "--pool",
            WORK_POOL,
            "--type",
            "process",
            "--name",
            WORKER_NAME,
        ],
    }
    if receiver is not None:
        commands[RECEIVER] = [str(Path(python).with_name("nightshift")), "webhook", *receiver]
    # No interpolation by configparser: supervisord has its own, for which a percent sign is doubled.
    parser = configparser.RawConfigParser()
    parser["unix_http_server"] = {"file": _escaped(folder.socket), "chmod": "0700"}
    parser["supervisord"] = {
        "logfile": _escaped(folder.logs / "supervisor.log"),
        "logfile_maxbytes": "5MB",
        "logfile_backups": "2",
        "pidfile": _escaped(folder.process_id),
        "childlogdir": _escaped(folder.logs),
        "directory": _escaped(CHECKOUT),
        "identifier": "nightshift",
        "umask": "077",
    }
    parser["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for priority, (name, command) in enumerate(commands.items()):
        parser[f"program:{name}"] = {
            "command": _command(command),
            "directory": _escaped(CHECKOUT),
            "priority": str(priority),
            "autorestart": "true",
            # What ends sooner counts as not started, and is waited for a second longer each time; never given up.
            "startsecs": "60",
            "startretries": "1000000",
            # A worker that is asked to end kills its runs (3.8.8: prefect/runner/_process_manager.py, __aexit__), untold. One that is killed leaves them to go on.
            "stopsignal": "KILL" if name == WORKER else "TERM",
            "killasgroup": "false" if name == WORKER else "true",
            # The server's database is SQLite: it is given the time to close it.
            "stopwaitsecs": "60",
            "redirect_stderr": "true",
            "stdout_logfile": _escaped(folder.logs / f"{name}.log"),
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "5",
        }
    text = io.StringIO()
    parser.write(text)
    return text.getvalue()


def receiver_address(folder: ServerFolder) -> str:
    """Given the folder of a server with a receiver, return HOST:PORT of it, as it stands in supervisord's configuration."""
    parser = configparser.RawConfigParser()
    parser.read(folder.configuration)
    words = shlex.split(parser[f"program:{RECEIVER}"]["command"])
    return words[words.index("--listen") + 1]


class Supervised:
    """The running supervisor of a folder."""

    def __init__(self, folder: ServerFolder) -> None:
        self._folder = folder

    @contextmanager
    def _asked(self) -> Iterator[Any]:
        # The address is not used: the transport has the socket's. It has no time limit, and needs none on a socket of one's own machine.
        transport = SupervisorTransport(None, None, serverurl=f"unix://{self._folder.socket}")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as proxy:
            try:
                yield proxy.supervisor
            except (OSError, xmlrpc.client.Error) as error:
                raise PermanentError(
                    "ask the supervisor", str(self._folder.socket), str(error), "See logs/supervisor.log"
                ) from error

    def wait_until_listening(self) -> None:
        """Wait until it can be asked, right after its start. Raise PermanentError when it does not come about."""
        waiting = Retrying(
            retry=retry_if_result(lambda there: not there), stop=stop_after_delay(30), wait=wait_fixed(0.1)
        )
        try:
            waiting(lambda: answers_socket(self._folder.socket))
        except RetryError as error:
            log = self._folder.logs / "supervisor.log"
            raise PermanentError(
                "start the supervisor", str(log), log_tail(log) or "it does not answer", "See its log"
            ) from error

    @property
    def pid(self) -> int:
        """The supervisor's process id."""
        with self._asked() as supervisor:
            return int(supervisor.getPID())

    def programs(self) -> list[Program]:
        """Each program as it is now."""
        with self._asked() as supervisor:
            found = supervisor.getAllProcessInfo()
        return [Program(one["name"], one["statename"], one["pid"], Path(one["stdout_logfile"])) for one in found]

    def stop(self, name: str) -> None:
        """End a program, the worker by SIGKILL, the others by SIGTERM, and do not start it again. A program that does not run is left as it is."""
        if any(one.name == name and one.state in {"RUNNING", "STARTING", "BACKOFF"} for one in self.programs()):
            with self._asked() as supervisor:
                supervisor.stopProcess(name, True)

    def shut_down(self) -> None:
        """End the supervisor and what it still has, and wait until it is gone."""
        process = psutil.Process(self.pid)
        with self._asked() as supervisor:
            supervisor.shutdown()
        process.wait(150)


def marked(folder: ServerFolder, *, runs: bool | None = None) -> list[psutil.Process]:
    """The living processes that `up` started from this folder, and theirs: all, those of flow runs only, or those of none."""
    found = []
    for process in psutil.process_iter():
        try:
            variables = process.environ()
        except psutil.Error:
            continue
        if (
            variables.get(MARK) == str(folder.path)
            and runs in {None, RUN in variables}
            and process.status() != psutil.STATUS_ZOMBIE
        ):
            found.append(process)
    return found


def _escaped(path: Path) -> str:
    return str(path).replace("%", "%%")


def _command(words: Sequence[str]) -> str:
    # supervisord splits it by shlex, and reads a word with a leading ; behind a blank as a comment: shlex.join quotes it.
    return shlex.join(words).replace("%", "%%")
