"""Two of each part of a Prefect server, PostgreSQL and Redis: one of each is killed in the middle of a backup and a release, and nothing is lost or doubled."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from prefect.client.orchestration import SyncPrefectClient

from core.release_journal import Journal
from deployments.command.automations import ensure_automations
from deployments.local.service import Service
from tests.cluster.test_release_platform import with_patience
from tests.fix_distributed import ENDED, Distributed, kill
from tests.fix_kubernetes import KubernetesApi
from tests.fix_object_store import S3Server
from tests.fix_postgres import PostgresServer
from tests.fix_release import NEXT_COMMIT, SKIPPED, Stage, small_stage
from tests.waiting import wait_until

pytestmark = [pytest.mark.services, pytest.mark.timeout(900), pytest.mark.xdist_group("distributed")]
OUTAGE_SECONDS = float(os.environ.get("NIGHTSHIFT_TEST_OUTAGE_SECONDS", "15"))
COMPLETED = "prefect.flow-run.Completed"


@dataclass
class Held:
    """A backup and a release that are both held in their middle: the backup by a lock, the release by Pods that do not become ready."""

    distributed: Distributed
    stage: Stage
    locking: psycopg.Connection[Any]
    automation: str
    backup: str
    release: str

    def let_go(self) -> None:
        """Let both go on."""
        self.locking.rollback()
        assert self.stage.controllers is not None
        self.stage.controllers.mark(b"v2".hex(), "good")

    def ended(self) -> dict[str, str]:
        """How each ended, backup and release, once both have."""
        found = {}
        for run in (self.backup, self.release):
            wait_until(lambda run=run: self.distributed.state(run)["type"] in ENDED, f"{run} ends", seconds=200)  # type: ignore[misc]
            found[run] = self.distributed.state(run)["type"]
        return found


@pytest.fixture
def held(  # noqa: PLR0917 - fixtures
    request: pytest.FixtureRequest,
    tmp_path: Path,
    kubernetes: KubernetesApi,
    s3_server: S3Server,
    bucket: str,
    stage_folder: Path,
    postgres_15: PostgresServer,
    fresh_database: Callable[..., str],
    distributed: Distributed,
) -> Iterator[Held]:
    """Both, under way; given the parameter "with the automations", watched by those, with less patience than the files'."""
    name = fresh_database(postgres_15)
    postgres_15.execute(
        name, "CREATE TABLE things AS SELECT n, md5(n::text) AS text FROM generate_series(1, 1000) AS n"
    )
    with (
        small_stage(kubernetes, stage_folder, s3_server.endpoint, bucket) as stage,
        postgres_15.connect(name, autocommit=False) as locking,
    ):
        database = {"host": postgres_15.host, "port": postgres_15.port, "name": name, "user": postgres_15.superuser}
        stage.settings["databases"]["app"] = {**database, "password": f"env:{postgres_15.password_variable}"}
        stage.write()
        distributed.start()
        automation = told_automation(distributed)
        if getattr(request, "param", ""):
            auth_string = distributed.variables["PREFECT_SERVER_API_AUTH_STRING"]
            with SyncPrefectClient(f"{distributed.rest.base_url}", auth_string=auth_string) as client:
                ensure_automations(client, with_patience(tmp_path, "zombies.yaml", "within: 300", "within: 90"))

        locking.execute("LOCK TABLE things IN ACCESS EXCLUSIVE MODE")
        assert stage.controllers is not None
        stage.controllers.mark(b"v2".hex(), "unready")
        backup = distributed.post_run("nightly-backup", {})
        parameters = {"image": stage.digest("v2"), "commit": NEXT_COMMIT, "migrate": False, "skip_checks": SKIPPED}
        release = distributed.post_run("release", parameters | {"requested_by": "the test"})
        waiting = "SELECT count(*) FROM pg_locks WHERE relation = 'things'::regclass AND NOT granted"
        with postgres_15.connect(name) as looking:
            wait_until(lambda: (looking.execute(waiting).fetchone() or (0,))[0], "the backup waits", seconds=150)
        wait_until(lambda: stage.image_of() == stage.image("v2"), "the release has begun", seconds=150)
        yield Held(distributed, stage, locking, automation, backup, release)


def test_one_of_each_is_killed_during_a_backup_and_a_release(held: Held, s3_server: S3Server, bucket: str) -> None:
    kill(held.distributed.worker_of(held.release))
    kill(held.distributed.servers[0])
    kill(held.distributed.services[0])
    held.let_go()
    assert set(held.ended().values()) == {"COMPLETED"}
    require_one_of_each(held, s3_server, bucket)


@pytest.mark.platform
@pytest.mark.parametrize("distributed", ["own database"], indirect=True)
def test_the_servers_database_and_redis_are_killed_during_a_backup_and_a_release(
    held: Held, s3_server: S3Server, bucket: str
) -> None:
    distributed = held.distributed
    kill_database(distributed.database)
    assert distributed.broker.process is not None
    distributed.broker.process.kill()
    distributed.broker.process.wait(30)
    wait_until(lambda: distributed.rest.get("/ready").status_code == 503, "the servers say that they cannot work")
    # Work goes on while both are away, and neither run can tell of it.
    held.let_go()
    time.sleep(OUTAGE_SECONDS)
    assert distributed.rest.get("/ready").status_code == 503
    distributed.broker.start()
    distributed.database.start()
    assert set(held.ended().values()) == {"COMPLETED"}
    require_one_of_each(held, s3_server, bucket)


@pytest.mark.platform
@pytest.mark.parametrize("held", ["with the automations"], indirect=True)
def test_a_worker_that_is_killed_with_its_runs_is_told_of_and_what_they_left_is_brought_to_an_end(
    held: Held, s3_server: S3Server, bucket: str
) -> None:
    distributed, stage = held.distributed, held.stage
    kill_all_of(distributed.workers)
    held.let_go()
    for worker in distributed.workers:
        worker.start()
    assert held.ended() == {held.backup: "CRASHED", held.release: "CRASHED"}
    for run in (held.backup, held.release):
        assert "no heartbeat" in distributed.state(run)["message"]
    # What the end of the release starts.
    wait_until(lambda: bool(recoveries(distributed)), "the recovery has begun", seconds=60)
    wait_until(lambda: all(one["type"] in ENDED for one in recoveries(distributed)), "the recovery ends", seconds=200)
    if any(not one.outcome for one in stage.journals()):
        # Where it came too early (the dead one's lease), the next sweep does it; sweeps are off here.
        distributed.post_run("release-recovery", {})
    ended = lambda: all(one.outcome for one in stage.journals())  # noqa: E731
    wait_until(ended, f"the release has its end: {[one['message'] for one in recoveries(distributed)]}", seconds=200)
    (journal,) = stage.journals()
    assert (journal.outcome, stage.image_of()) == ("rolled back", stage.image("v1"))
    keys = [one["Key"] for one in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert not [one for one in keys if one.endswith("manifest.json")]
    # The next backup is not kept waiting by the one that died, and is whole.
    again = distributed.post_run("nightly-backup", {})
    wait_until(lambda: distributed.state(again)["type"] in ENDED, "the next backup ends", seconds=400)
    assert distributed.state(again)["type"] == "COMPLETED", distributed.state(again)
    keys = [one["Key"] for one in s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert len([one for one in keys if one.endswith("manifest.json")]) == 1


def require_one_of_each(held: Held, s3_server: S3Server, bucket: str) -> None:
    """Nothing is lost or doubled: runs, their events, what hears of these, the journal, the backup, the reports."""
    distributed, stage, backup, release = held.distributed, held.stage, held.backup, held.release
    # Each is told once, and the automation that hears of it fires once for each.
    wait_until(lambda: len(ended_probes(distributed)) == 2, "the automation has fired for both", seconds=120)
    told = Counter(one["resource"]["prefect.resource.id"].rpartition(".")[2] for one in distributed.events(COMPLETED))
    assert (told[backup], told[release]) == (1, 1), told
    fired = [
        one for one in distributed.events("prefect.automation.triggered") if held.automation in str(one["resource"])
    ]
    assert len(fired) == 2
    assert len(distributed.runs("nightly-backup", "probe-well")) == 2
    assert [one["id"] for one in distributed.runs("nightly-backup", "stage")] == [backup]
    assert [one["id"] for one in distributed.runs("release", "stage")] == [release]
    assert [one["run_count"] for one in distributed.runs("release", "stage")] == [1]

    (journal,) = stage.journals()
    assert once(journal), journal.entries
    assert stage.image_of() == stage.image("v2")
    listed = s3_server.client.list_objects_v2(Bucket=bucket)["Contents"]
    assert len([one["Key"] for one in listed if one["Key"].endswith("manifest.json")]) == 1
    assert len([one["Key"] for one in listed if one["Key"].endswith("decoded.json")]) == 1
    assert sorted(one.flow for one in stage.reports()) == ["nightly-backup", "release"]


def recoveries(distributed: Distributed) -> list[dict[str, Any]]:
    """How the recoveries stand that something has started."""
    return [one["state"] for one in distributed.runs("release-recovery", "stage") if not one["auto_scheduled"]]


def kill_all_of(workers: list[Service]) -> None:
    """SIGKILL workers and all that is below them."""
    found = []
    for worker in workers:
        assert worker.process is not None
        own = psutil.Process(worker.process.pid)
        found += [own, *own.children(recursive=True)]
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    for worker in workers:
        assert worker.process is not None
        worker.process.wait(30)


def kill_database(server: PostgresServer) -> None:
    """SIGKILL its first process; the others end by themselves when they see that."""
    assert server.process is not None
    below = psutil.Process(server.process.pid).children(recursive=True)
    server.process.kill()
    server.process.wait(30)
    psutil.wait_procs(below, timeout=30)
    server.process = None


def once(journal: Journal) -> bool:
    """Whether no step was begun twice."""
    begun = [one.step for one in journal.entries if one.event == "intent"]
    return bool(begun) and len(begun) == len(set(begun))


def told_automation(distributed: Distributed) -> str:
    """Have a run of `stage` that completes start nightly-backup/probe-well, and return the automation's id."""
    probe = distributed.ask("GET", "/deployments/name/nightly-backup/probe-well")["id"]
    trigger = {
        "type": "event",
        "posture": "Reactive",
        "match": {"prefect.resource.id": "prefect.flow-run.*"},
        "match_related": {"prefect.resource.role": "deployment", "prefect.resource.name": "stage"},
        "for_each": ["prefect.resource.id"],
        "expect": [COMPLETED],
        "threshold": 1,
        "within": 0,
    }
    action = {"type": "run-deployment", "source": "selected", "deployment_id": probe}
    document = {"name": "told", "trigger": trigger, "actions": [action]}
    return str(distributed.ask("POST", "/automations/", document)["id"])


def ended_probes(distributed: Distributed) -> list[str]:
    """The automation's runs that have ended."""
    found = distributed.runs("nightly-backup", "probe-well")
    return [one["id"] for one in found if one["state"]["type"] in ENDED]
