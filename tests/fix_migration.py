"""What migrations are tested with: settings, states and ends as records, and a Pod's two scripts run by sh on this machine."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from core.environment_migration import Migration
from core.migration_end import JobEnd, LockReport
from core.migration_job import HOLDS, MIGRATES
from core.migration_outcome import MigrationState
from core.migration_scripts import HOLD, MIGRATE, SIGNALS
from tests.fix_kubernetes import Document, KubernetesApi
from tests.fix_postgres import MAJORS

NAME = "nightshift-migrate-r1-1"
# Where psql is, when this machine has none of its own.
PSQL = MAJORS[max(MAJORS)]
# A client as node-postgres is: libpq's variables, no application_name of its own.
CLIENT = """\
import os, sys, psycopg
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    for statement in sys.argv[1:]:
        for row in connection.execute(statement).fetchall() if statement.startswith("SELECT") else connection.execute(statement) and ():
            print(*row, flush=True)
"""


def settings(**changed: Any) -> Migration:
    """A migration's settings as short as they get."""
    return Migration.model_validate({"database": "app", "command": ("migrate",), "secret": "database", **changed})


def state(*names: str, **changed: Any) -> MigrationState:
    """A database's state with these migrations applied."""
    return MigrationState(
        **{
            "table_exists": True,
            "names": names,
            "locked": False,
            "invalid_indexes": (),
            "fingerprint": "a" * 64,
            **changed,
        }
    )


def end(how: str = "failed", **changed: Any) -> JobEnd:
    """How a Job ended: as a migration that was run with its lock held and its name seen."""
    held = LockReport(held=True, named=True, lost=False)
    code = 0 if how == "succeeded" else 1
    return JobEnd.model_validate(
        {
            "state": how,
            "exit_code": code,
            "reason": f"exit code {code}",
            "started": True,
            "lock": held,
            "pods": 1,
            **changed,
        }
    )


WAITING: Document = {"waiting": {"reason": "ContainerCreating"}}
RUNNING: Document = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}
LOCK_SAID = "holder=\nheld=yes\nseen=yes\nlost=no"


class ShellPod:
    """The two containers of a migration's Pod, as processes."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address
        self.signals = folder / "signals"
        self.signals.mkdir()
        self.processes: list[subprocess.Popen[str]] = []

    def hold(self, *, patience: int = 5, **variables: str) -> subprocess.Popen[str]:
        """Start the container with the lock."""
        environment = {"DATABASE_URL": self.address, "PGAPPNAME": f"{NAME}-lock", **variables}
        return self._start("hold", HOLD, [NAME, str(patience), "DATABASE_URL"], environment)

    def migrate(self, *command: str, limit: int = 15, pending: str = "", **variables: str) -> subprocess.Popen[str]:
        """Start the container that migrates."""
        environment = {
            "DATABASE_URL": self.address,
            "PGOPTIONS": f"-c lock_timeout=300 -c application_name={NAME}",
            **variables,
        }
        return self._start("migrate", MIGRATE, [str(limit), pending, *command], environment)

    def run_statements(self, *statements: str, **options: Any) -> subprocess.Popen[str]:
        """Start the container that migrates with these statements, each a transaction."""
        return self.migrate(sys.executable, "-c", CLIENT, *statements, **options)

    def said(self, container: str) -> dict[str, str]:
        """A container's termination message."""
        lines = (self.folder / f"{container}.message").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def end(self) -> None:
        """Kill what still runs, with all that it started, as the end of a container does."""
        for process in self.processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate(timeout=30)

    def _start(self, name: str, script: str, arguments: list[str], variables: dict[str, str]) -> subprocess.Popen[str]:
        script = script.replace(SIGNALS, str(self.signals)).replace(
            "/dev/termination-log", str(self.folder / f"{name}.message")
        )
        process = subprocess.Popen(
            ["sh", "-c", script, name, *arguments],
            env={"PATH": f"{os.environ['PATH']}:{PSQL}", "LC_ALL": "C", **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.processes.append(process)
        return process


class PlayedJob:
    """A Job on the small API (fix_kubernetes) with its Pod, whose controller and kubelet are the test."""

    def __init__(self, api: KubernetesApi, document: Document) -> None:
        self.api, self.name = api, document["metadata"]["name"]
        self.namespace = document["metadata"]["namespace"]
        self.pods: list[str] = []

    def make_pod(self, **states: Document) -> str:
        """Make a Pod; states of its containers as `set` takes them."""
        self.pods.append(f"{self.name}-{len(self.pods)}")
        metadata = {"name": self.pods[-1], "namespace": self.namespace, "labels": {"job-name": self.name}}
        containers = [{"name": MIGRATES}, {"name": HOLDS}]
        self.api.put({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": containers}})
        self.set(**(states or {"migrate": WAITING, "lock": WAITING}))
        return self.pods[-1]

    def set(self, *, phase: str = "Pending", migrate: Document, lock: Document, pod: int = -1) -> None:
        """Write the Pod's status."""
        statuses = [{"name": MIGRATES, "state": migrate}, {"name": HOLDS, "state": lock}]
        self.api.set_status(
            "v1", "pods", self.namespace, self.pods[pod], phase=phase, podIP="10.1.2.3", containerStatuses=statuses
        )

    def end(
        self, condition: str, *, code: int = 0, said: str = "started=yes", lock: str = LOCK_SAID, reason: str = "Error"
    ) -> None:
        """End both containers, and the Job with this condition."""
        phase = "Succeeded" if code == 0 else "Failed"
        self.set(
            phase=phase,
            migrate={"terminated": {"exitCode": code, "reason": "Completed" if code == 0 else reason, "message": said}},
            lock={"terminated": {"exitCode": 0, "reason": "Completed", "message": lock}},
        )
        self.finish(condition)

    def finish(self, condition: str, **told: str) -> None:
        """Give the Job a condition."""
        self.api.set_status(
            "batch/v1", "jobs", self.namespace, self.name, conditions=[{"type": condition, "status": "True", **told}]
        )

    def deadline(self) -> int | None:
        """The Job's activeDeadlineSeconds."""
        found: int | None = self.api.read("batch/v1", "jobs", self.namespace, self.name)["spec"][
            "activeDeadlineSeconds"
        ]
        return found


@pytest.fixture
def shell_pod(tmp_path: Path) -> Iterator[Any]:
    """A factory: given a database's address, a Pod's containers as processes. What still runs is killed at the end."""
    pods: list[ShellPod] = []

    def make(address: str) -> ShellPod:
        folder = tmp_path / f"pod{len(pods)}"
        folder.mkdir()
        pods.append(ShellPod(folder, address))
        return pods[-1]

    yield make
    for pod in pods:
        pod.end()
