"""A night of fifty databases over two workers, against what two workers that never wait would need; and what it asks of the Prefect server.

    .venv/bin/python -m benchmarks.fleet

Each of 25 environments has two databases, copies of one another, backed up side by side. Two workers take a run at a time. A dump of a real database waits for its
server and the network rather than for our processors; here all of it shares this machine's, so a proxy passes on only so many bytes a second of each connection to
PostgreSQL.

The ideal is half of what the 25 backups take one by one, from the first step's start to the last one's end as their reports tell, each as long as the median of three
that had the machine to themselves: neither the start of a process nor an orchestrator is in it. The night is from the runs' creation, all at once, to the last one's end.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import psutil
import psycopg
import tomli_w
import typer
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun
from psycopg import sql
from psycopg.conninfo import make_conninfo

from benchmarks.backup import fill, make_platform
from benchmarks.measuring import Ratio, finish
from core.evidence import Report
from deployments.command.deploying import deployment_file
from deployments.command.prefect_api import server_of
from deployments.local.data_folder import CHECKOUT
from deployments.local.platform import Platform
from deployments.local.ports import HOST
from tasks.environments import load_environment
from tasks.evidence import read_report
from tasks.object_store import ObjectStore
from tasks.secrets import signing_keys

WORKERS, DATABASES_EACH = 2, 2
MOST = 1.2
POOL = "fleet"
MIB = 1024 * 1024


class SlowWay:
    """A proxy to PostgreSQL that passes on so many bytes a second of what the server says on each connection."""

    def __init__(self, port: int, bytes_a_second: int) -> None:
        self._to, self._rate = port, bytes_a_second
        self._loop = asyncio.new_event_loop()
        self.port = self._loop.run_until_complete(self._listen())
        threading.Thread(target=self._loop.run_forever, name="slow way", daemon=True).start()

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._pass_on, HOST, 0)
        return int(server.sockets[0].getsockname()[1])

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self._to)
        await asyncio.gather(self._pump(reader, back, 0), self._pump(there, writer, self._rate), return_exceptions=True)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, rate: int) -> None:
        try:
            while part := await source.read(64 * 1024):
                sink.write(part)
                await sink.drain()
                if rate:
                    await asyncio.sleep(len(part) / rate)
        finally:
            sink.close()


class Fleet:
    """The platform with its environments, named one-01, one-02, …"""

    def __init__(self, platform: Platform, folder: Path, environments: list[str], way: SlowWay) -> None:
        self.platform, self.environments = platform, environments
        self.variables = {
            **platform.variables,
            "NIGHTSHIFT_ENVIRONMENTS": str(folder),
            "PYTHONPATH": str(CHECKOUT),
            "PREFECT_LOGGING_LEVEL": "WARNING",
        }
        os.environ.update(platform.variables)
        os.environ["NIGHTSHIFT_ENVIRONMENTS"] = str(folder)
        server = psutil.Process(platform.prefect.service.process.pid) if platform.prefect.service.process else None
        assert server is not None  # noqa: S101 - for the type checker: the platform runs
        self.server = server
        for number, name in enumerate(environments):
            databases = {
                f"app-{one}": {
                    "host": HOST,
                    "port": way.port,
                    "name": f"app_{number * DATABASES_EACH + one}",
                    "user": "nightshift_backup",
                    "password": "env:NIGHTSHIFT_LOCAL_BACKUP_PASSWORD",
                }
                for one in range(DATABASES_EACH)
            }
            store = {
                "bucket": platform.store.bucket,
                "endpoint_url": platform.store.endpoint_url,
                "access_key_id": "env:NIGHTSHIFT_LOCAL_S3_KEY_ID",
                "secret_access_key": "env:NIGHTSHIFT_LOCAL_S3_SECRET",
            }
            signing = {"key": "env:NIGHTSHIFT_LOCAL_SIGNING_KEY"}
            (folder / f"{name}.toml").write_text(
                tomli_w.dumps({"store": store, "signing": signing, "databases": databases})
            )

    def alone(self, name: str) -> float:
        """Seconds of one backup with the machine to itself, as its report tells."""
        code = f"from flows.nightly_backup import nightly_backup; nightly_backup({name!r})"
        variables = self.platform.prefect.environment(self.variables)
        subprocess.run([sys.executable, "-c", code], env=variables, cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL)
        return own_seconds(self.report(name))

    def report(self, name: str) -> Report:
        """The newest report of an environment."""
        environment = load_environment(name)
        return read_report(ObjectStore.open(environment), environment, signing_keys(environment))[1]

    @contextmanager
    def workers(self, folder: Path) -> Iterator[None]:
        """Two workers that take a run at a time, with a pool of their own."""
        variables = self.platform.prefect.environment(self.variables)
        prefect = (sys.executable, "-m", "prefect")
        subprocess.run([*prefect, "work-pool", "create", POOL, "--type", "process"], env=variables, check=True)
        document = yaml.safe_load((CHECKOUT / "prefect.yaml").read_text())
        entries = [deployment_file(document, "nightly-backup", name)[0]["deployments"][0] for name in self.environments]
        for entry in entries:
            entry["work_pool"] = {**entry["work_pool"], "name": POOL}
        file = folder / "prefect.yaml"
        file.write_text(yaml.safe_dump({**document, "deployments": entries}, sort_keys=False))
        self.platform.prefect.deploy(self.variables, prefect_file=file, names="*/*")
        with ExitStack() as stack:
            for number in range(WORKERS):
                command = [*prefect, "worker", "start", "--pool", POOL, "--limit", "1", "--name", f"worker-{number}"]
                child = stack.enter_context(
                    subprocess.Popen(command, env=variables, cwd=CHECKOUT, stdout=subprocess.DEVNULL)
                )
                stack.callback(child.terminate)
            with server_of(self.platform.running).client() as client:
                while len(client.request("POST", "/work_pools/fleet/workers/filter", json={}).json()) < WORKERS:
                    time.sleep(0.2)
            yield

    def night(self) -> tuple[float, list[FlowRun]]:
        """Make a run of each at once, wait for the last one; seconds, and the runs."""
        with server_of(self.platform.running).client() as client:
            began = time.monotonic()
            ids = [
                client.create_flow_run_from_deployment(client.read_deployment_by_name(f"nightly-backup/{name}").id).id
                for name in self.environments
            ]
            while not all(run.state is not None and run.state.is_final() for run in _runs(client, ids)):
                time.sleep(0.5)
            return time.monotonic() - began, _runs(client, ids)


def _runs(client: SyncPrefectClient, ids: list[Any]) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)), limit=200)


def own_seconds(report: Report) -> float:
    """From the first step's start to the last one's end."""
    begun = min(step.started for step in report.steps)
    return max((step.started - begun).total_seconds() + step.duration_ms / 1000 for step in report.steps)


def main(
    databases: Annotated[int, typer.Option(min=2)] = 50,
    mib: Annotated[int, typer.Option(help="Size of each database's dump, uncompressed.", min=1)] = 64,
    mib_a_second: Annotated[float, typer.Option(help="What each connection to PostgreSQL passes on.", min=0.1)] = 2.0,
) -> None:
    """Measure a night."""
    names = [f"one-{number:02d}" for number in range(1, databases // DATABASES_EACH + 1)]
    with tempfile.TemporaryDirectory(prefix="nightshift-benchmark-") as folder:
        environments = Path(folder) / "environments"
        environments.mkdir()
        with make_platform(Path(folder) / "platform") as platform:
            fill(platform, mib * MIB)
            with psycopg.connect(
                make_conninfo(platform.postgres.admin_conninfo, dbname="postgres"), autocommit=True
            ) as session:
                for number in range(len(names) * DATABASES_EACH):
                    session.execute(
                        sql.SQL("CREATE DATABASE {} TEMPLATE platform").format(sql.Identifier(f"app_{number}"))
                    )
            way = SlowWay(platform.postgres.port, int(mib_a_second * MIB))
            fleet = Fleet(platform, environments, names, way)
            alone = statistics.median(fleet.alone(name) for name in names[:3])
            with fleet.workers(Path(folder)):
                before = fleet.server.cpu_times()
                seconds, runs = fleet.night()
                after = fleet.server.cpu_times()
            failed = [run.name for run in runs if run.state is None or not run.state.is_completed()]
            if failed:
                sys.exit(f"{len(failed)} of {len(runs)} runs are not completed: {', '.join(failed[:3])}")
            inside = statistics.median(own_seconds(fleet.report(name)) for name in names)
            memory = fleet.server.memory_info().rss
    ideal = alone * len(names) / WORKERS
    server_seconds = after.user + after.system - before.user - before.system
    finish(
        "fleet",
        [Ratio("the night ÷ the ideal of two workers", seconds / ideal, MOST)],
        {
            "databases": len(names) * DATABASES_EACH,
            "a backup alone, from its first step to its last": f"{alone:.1f} s",
            "the same in the night, median": f"{inside:.1f} s",
            "the night": f"{seconds:.0f} s, the ideal {ideal:.0f} s",
            "the Prefect server's processor time for each run": f"{server_seconds / len(names):.2f} s",
            "its memory at the end": f"{memory / MIB:.0f} MiB",
            "processors": os.cpu_count(),
        },
    )


if __name__ == "__main__":
    typer.run(main)
