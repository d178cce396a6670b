"""A Prefect server of the platform's own and a worker of the process pool `nightshift`, with the settings that were found to be needed (PREFECT-NOTES).

Both have a PREFECT_HOME in the platform's folder, and none of the user's PREFECT_ variables: a demo must never deploy to somebody's production server.
"""

import os
import secrets
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from core.errors import PermanentError
from core.redaction import register_secret
from deployments.local import leash
from deployments.local.data_folder import CHECKOUT, DataFolder
from deployments.local.ports import HOST, free_port
from deployments.local.prefect_template import keep_template, use_template
from deployments.local.service import Service

WORK_POOL = "nightshift"
PREFERRED_PORT = 4200
_WORKER_GRACE_SECONDS = 5.0
_DEPLOY_SECONDS = 180.0
_SETTINGS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # In memory, slots leak when the server restarts, and a healthy run under a deployment's limit is crashed.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_LOGGING_LEVEL": "INFO",
    "PREFECT_LOGGING_COLORS": "false",
    # A uv that is on PATH would install this project anew for each run.
    "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_CLI_COLORS": "false",
    "PREFECT_CLI_WRAP_LINES": "false",
}


def prefect_environment(
    home: Path, temporary: Path, api_url: str, auth_string: str, *, kept: tuple[str, ...] = ()
) -> dict[str, str]:
    """Given a server's folders, address and password, return the variables for a child that speaks to it.

    They are ours, without the user's own of Prefect (but for those whose names begin with one of `kept`) and of the environment `local`.
    """
    ours = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(kept) or not name.startswith(("PREFECT_", "NIGHTSHIFT_LOCAL__"))
        # The .venv is ours: bytecode that is not kept costs each start of a process some seconds.
        if name != "PYTHONDONTWRITEBYTECODE"
    }
    no_proxy = ",".join(filter(None, (ours.get("NO_PROXY") or ours.get("no_proxy"), HOST, "localhost")))
    return {
        "PREFECT_WORKER_QUERY_SECONDS": "2",
        **ours,
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        **_SETTINGS,
        "PREFECT_HOME": str(home),
        "TMPDIR": str(temporary),
        "PREFECT_API_URL": api_url,
        "PREFECT_API_AUTH_STRING": auth_string,
        "PYTHONUNBUFFERED": "1",
    }


class PrefectServer:
    """Server, worker and deployments, and how to reach them."""

    def __init__(self, folder: DataFolder, *, preferred_port: int = PREFERRED_PORT) -> None:
        """Given the platform's claimed folder and the port that is best (another one when it is taken), get ready to start."""
        self._folder = folder
        self.port = free_port(preferred_port)
        self.user, self.password = "nightshift", secrets.token_urlsafe(18)
        register_secret(self.password)
        self.ui_url = f"http://{HOST}:{self.port}"
        self.api_url = f"{self.ui_url}/api"
        self.service = Service(
            name="the Prefect server",
            argv=[sys.executable, "-m", "prefect", "server", "start", "--host", HOST, "--port", str(self.port)],
            environment=self.environment({"PREFECT_SERVER_API_AUTH_STRING": self.auth_string}),
            log=folder.logs / "prefect-server.log",
            folder=folder.prefect_home,
            # Its database is thrown away; while it is still starting it does not heed signals.
            grace_seconds=4,
        )
        self._from_template = False

    @property
    def auth_string(self) -> str:
        """User and password as Prefect writes them; what the UI asks for."""
        return f"{self.user}:{self.password}"

    def environment(self, additions: Mapping[str, str]) -> dict[str, str]:
        """The variables for a child that speaks to this server (see prefect_environment), and the additions."""
        folder = self._folder
        own = prefect_environment(folder.prefect_home, folder.temporary, self.api_url, self.auth_string)
        return {**own, **additions}

    def start(self) -> None:
        """Start the server; `wait_until_ready` is to follow, some seconds later."""
        self._from_template = use_template(self._folder.prefect_home)
        self.service.start()

    def wait_until_ready(self) -> None:
        """Wait until the server answers to our password, and make the work pool. Raise PermanentError when it does not come about."""
        self.service.wait_until(self._answers, timeout_seconds=120)
        if not self._from_template:
            keep_template(self._folder.prefect_home)
        self._make_work_pool()

    def worker(self, environment: Mapping[str, str]) -> Service:
        """Given the variables that flow runs need, return the worker, ready to start."""
        python = sys.executable
        worker = ("-m", "prefect", "worker", "start", "--pool", WORK_POOL, "--type", "process", "--name", "local")
        return Service(
            name="the Prefect worker",
            argv=[python, str(Path(leash.__file__)), str(_WORKER_GRACE_SECONDS), python, *worker],
            environment=self.environment(environment),
            log=self._folder.logs / "prefect-worker.log",
            folder=CHECKOUT,
            # So that the leash ends the flow runs when we die without asking for it.
            parent_death_signal=signal.SIGTERM,
            grace_seconds=_WORKER_GRACE_SECONDS + 10,
        )

    def deploy(self, environment: Mapping[str, str], *, prefect_file: Path, names: str) -> None:
        """Deploy what prefect_file describes under names (FLOW/NAME, * allowed). Raise PermanentError, with the end of the command's output, when that fails."""
        command = ("-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(prefect_file), "--name", names)
        Service(
            name=f"prefect deploy --name {names}",
            argv=[sys.executable, *command],
            environment=self.environment(environment),
            log=self._folder.logs / "deploy.log",
            folder=prefect_file.parent,
        ).run_to_end(_DEPLOY_SECONDS)

    def _answers(self) -> bool:
        try:
            return self._request("GET", "/admin/version").status_code == httpx.codes.OK
        except httpx.HTTPError:
            return False

    def _make_work_pool(self) -> None:
        pool = {"name": WORK_POOL, "type": "process", "description": "Processes on this machine"}
        try:
            answer = self._request("POST", "/work_pools/", pool)
        except httpx.HTTPError as error:
            raise PermanentError("make the work pool", self.api_url, str(error)) from error
        if answer.status_code not in {httpx.codes.CREATED, httpx.codes.CONFLICT}:
            raise PermanentError("make the work pool", self.api_url, f"the server answered {answer.status_code}")

    def _request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        # Without the user's proxy, and without Prefect's client: importing that takes seconds which nobody needs to wait.
        with httpx.Client(trust_env=False, auth=(self.user, self.password), timeout=10) as client:
            return client.request(method, f"{self.api_url}{path}", json=body)
