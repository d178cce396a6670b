"""How many flow runs at the same moment one Prefect server bears, on SQLite and on PostgreSQL.

    .venv/bin/python -m benchmarks.server

Each run makes twelve steps of five seconds, so it is a minute's work; all begin together (server_child.py). Meanwhile the server is asked, four times a second, what a
worker asks it: which runs are due. Told are, for each number of runs: how many did not end Completed, how much longer than its work a run took, how long a worker's
question took, answers that were no answer (503 and the like, which the client asks again), and the server's processor time.

Server, runs and PostgreSQL share this machine's processors. A server of its own has more.
"""

import json
import math
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import httpx
import psutil
import psycopg
import typer

from benchmarks.measuring import Ratio, finish
from deployments.local.data_folder import CHECKOUT, DataFolder
from deployments.local.embedded_postgres import EmbeddedPostgres
from deployments.local.ports import HOST
from deployments.local.prefect_server import WORK_POOL, PrefectServer

ASK_EVERY_SECONDS = 0.25
# As prefect.yaml gives them to runs.
RUN_VARIABLES = {"PREFECT_CLIENT_MAX_RETRIES": "8", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}
MIB = 1024 * 1024


@dataclass(frozen=True)
class Borne:
    """So many runs at the same moment. Seconds; a question that got no answer counts as one that took as long as it was waited for."""

    database: str
    runs: int
    not_completed: int
    beyond: list[float]
    questions: list[float]
    unanswered: int
    requests: int
    refused: int
    server_cpu_seconds: float
    server_bytes: int
    locked: int

    @property
    def slowest_of_a_hundred(self) -> float:
        """A worker's question: 99 of 100 took no longer."""
        return sorted(self.questions)[math.ceil(len(self.questions) * 0.99) - 1]

    def line(self) -> str:
        """For a person."""
        parts = (
            f"{self.database}, {self.runs} at once: {self.not_completed} not Completed",
            f"longer than its work by {statistics.median(self.beyond):.1f} s (longest {max(self.beyond):.1f})",
            f"a worker's question {statistics.median(self.questions):.2f} s (99 of 100 within {self.slowest_of_a_hundred:.2f})",
            f"{self.unanswered} of {len(self.questions)} of them without an answer",
            f"{self.refused} of the runs' {self.requests} requests to be asked again",
            f'"database is locked" {self.locked} times',
            f"{self.server_cpu_seconds / self.runs:.2f} s of the server's processor for each",
            f"{self.server_bytes / MIB:.0f} MiB",
        )
        return "; ".join(parts)


class Worker(threading.Thread):
    """Asks which runs are due, as a worker does, until it is told to stop."""

    def __init__(self, prefect: PrefectServer) -> None:
        super().__init__(name="asks as a worker", daemon=True)
        self._prefect, self._over = prefect, threading.Event()
        self.seconds: list[float] = []
        self.unanswered = 0

    def run(self) -> None:
        """Ask."""
        path = f"{self._prefect.api_url}/work_pools/{WORK_POOL}/get_scheduled_flow_runs"
        with httpx.Client(trust_env=False, auth=(self._prefect.user, self._prefect.password), timeout=60) as client:
            while not self._over.wait(ASK_EVERY_SECONDS):
                began = time.monotonic()
                try:
                    self.unanswered += not client.post(path, json={}).is_success
                except httpx.TransportError:
                    self.unanswered += 1
                self.seconds.append(time.monotonic() - began)

    def stop(self) -> None:
        """Ask no more."""
        self._over.set()
        self.join()


@contextmanager
def server_on(database: str, folder: Path) -> Iterator[PrefectServer]:
    """A Prefect server of its own, on the database of that kind."""
    data = DataFolder(folder / database)
    data.claim()
    prefect = PrefectServer(data, preferred_port=0)
    postgres = EmbeddedPostgres(data) if database == "postgresql" else None
    try:
        if postgres is not None:
            postgres.start()
            with psycopg.connect(postgres.admin_conninfo, dbname="postgres", autocommit=True) as session:
                session.execute("CREATE DATABASE prefect")
            url = f"postgresql+asyncpg://postgres:{postgres.admin_password}@{HOST}:{postgres.port}/prefect"
            prefect.service.environment = {
                **prefect.service.environment,
                "PREFECT_SERVER_DATABASE_CONNECTION_URL": url,
            }
        prefect.start()
        prefect.wait_until_ready()
        yield prefect
    finally:
        prefect.service.stop()
        if postgres is not None:
            postgres.service.stop()
        data.release()


def bear(prefect: PrefectServer, database: str, runs: int, work: tuple[int, float]) -> Borne:
    """Given a server, the kind of its database, how many runs, and the steps of each with their seconds, have them run at once, and tell how it went."""
    steps, seconds = work
    folder = prefect.service.log.parent
    process = prefect.service.process
    assert process is not None  # noqa: S101 - for the type checker: it was started
    server, out = psutil.Process(process.pid), folder / "ended.json"
    before, log_before = _cpu(server), _locked(prefect.service.log)
    worker = Worker(prefect)
    worker.start()
    try:
        command = [sys.executable, "-m", "benchmarks.server_child", str(out), str(runs), str(steps), str(seconds)]
        variables = prefect.environment(RUN_VARIABLES)
        with (folder / "runs.log").open("a") as log:
            subprocess.run(command, cwd=CHECKOUT, env=variables, check=True, stdout=log, stderr=log)
    finally:
        worker.stop()
    told: dict[str, Any] = json.loads(out.read_text())
    answers = {int(status): count for status, count in told["answers"].items()}
    return Borne(
        database=database,
        runs=runs,
        not_completed=sum(state != "COMPLETED" for state, _ in told["ended"]),
        beyond=[took - steps * seconds for state, took in told["ended"] if state == "COMPLETED"] or [math.inf],
        questions=worker.seconds,
        unanswered=worker.unanswered,
        requests=sum(answers.values()),
        refused=sum(
            count for status, count in answers.items() if not status or status >= httpx.codes.INTERNAL_SERVER_ERROR
        ),
        server_cpu_seconds=_cpu(server) - before,
        server_bytes=server.memory_info().rss,
        locked=_locked(prefect.service.log) - log_before,
    )


def _cpu(server: psutil.Process) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in (server, *server.children(recursive=True)))


def _locked(log: Path) -> int:
    return log.read_text(errors="replace").count("database is locked")


def main(
    runs: Annotated[str, typer.Option(help="How many at the same moment, one after another.")] = "10,25,50",
    steps: Annotated[int, typer.Option(help="Of each run.", min=1)] = 12,
    seconds: Annotated[float, typer.Option(help="Of each step.", min=0.1)] = 5.0,
    databases: Annotated[str, typer.Option(help="Of the server.")] = "sqlite,postgresql",
) -> None:
    """Measure."""
    found: list[Borne] = []
    with tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as name:
        for database in databases.split(","):
            with server_on(database, Path(name)) as prefect:
                # The first one pays for what is loaded once.
                bear(prefect, database, 1, (1, 0.1))
                for number in runs.split(","):
                    found.append(bear(prefect, database, int(number), (steps, seconds)))
                    print(found[-1].line(), flush=True)
    finish(
        "runs at the same moment",
        [Ratio(f"{one.database}: not Completed of {one.runs} at once", one.not_completed, 0) for one in found],
        {f"{one.database} {one.runs}": one.line().partition(": ")[2] for one in found},
    )


if __name__ == "__main__":
    typer.run(main)
