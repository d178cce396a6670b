"""The environment `stage` with a migration: its Jobs are the small API's, and what they do is done to a database of a real server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pytest
from prefect.client.schemas.objects import State

from core.fence import Document
from core.migration_job import ATTEMPT, BARRIER, MIGRATES
from tasks.release_recovery_steps import decide_after_failure, decide_on
from tasks.release_run import journaled
from tests.fix_kubernetes_jobs import JobDone
from tests.fix_postgres import PostgresServer
from tests.fix_release import Stage
from tests.waiting import wait_until

TABLES = (
    "CREATE TABLE migrations (id serial PRIMARY KEY, name text)",
    "INSERT INTO migrations (name) VALUES ('a_001')",
    "CREATE TABLE orders AS SELECT n AS id, n % 7 AS kind FROM generate_series(1, 50) AS n",
)
ADD_COLUMN = "ALTER TABLE orders ADD COLUMN note text"
DIVIDE = "SELECT 1/0"


def applied(name: str) -> str:
    """The statement by which a migrator notes a migration."""
    return f"INSERT INTO migrations (name) VALUES ('{name}')"  # noqa: S608 - the test's own


@dataclass
class Migrating:
    """`stage`, its database, and what its migration's Jobs do: attempt → statements, each a transaction; the last one's for those after it."""

    stage: Stage
    server: PostgresServer
    database: str
    statements: dict[int, tuple[str, ...]] = field(default_factory=dict)
    said: dict[int, str] = field(default_factory=dict)
    # The Jobs that were run, by name, and the lock_timeout that their sessions had.
    ran: list[str] = field(default_factory=list)
    lock_timeouts: list[str] = field(default_factory=list)
    variables: list[dict[str, Any]] = field(default_factory=list)
    began: threading.Event = field(default_factory=threading.Event)
    running: int = 0
    meanwhile: Callable[[int], None] = lambda _attempt: None

    def release(self, image: str = "v2", **parameters: Any) -> State[Any]:
        """Release with the migration."""
        return self.stage.release(image, **{"migrate": True, **parameters})

    def execute(self, *statements: str) -> None:
        """Run statements in the database."""
        self.server.execute(self.database, *statements)

    def ask(self, query: str) -> Any:
        """The first row of a query."""
        with self.server.connect(self.database) as connection:
            return connection.execute(query).fetchone()  # type: ignore[call-overload]

    def jobs(self) -> list[str]:
        """The Jobs that there are, by name, but for those that only keep a late request from making one."""
        return sorted(
            one["metadata"]["name"]
            for one in self.stage.client.list(f"/apis/batch/v1/namespaces/{self.stage.namespace}/jobs")
            if BARRIER not in one["metadata"]["annotations"]
        )

    def remove_job(self, release_id: str = "") -> None:
        """Remove the last Job by name (of a release), as somebody may by mistake."""
        client, namespace = self.stage.client, self.stage.namespace
        path = f"/apis/batch/v1/namespaces/{namespace}/jobs/{[one for one in self.jobs() if release_id in one][-1]}"
        client.delete(path, uid=client.get(path)["metadata"]["uid"])

    def cron_is_suspended(self) -> bool:
        """Whether the CronJob is."""
        path = f"/apis/batch/v1/namespaces/{self.stage.namespace}/cronjobs/nightly"
        return bool(self.stage.client.get(path)["spec"].get("suspend"))

    def serves_old(self) -> bool:
        """Whether everything is as before the release, the database aside: old images, CronJobs resumed, lease free, journal closed."""
        stage = self.stage
        images = {stage.image_of(), stage.image_of("worker")}
        closed = all(not one.is_open for one in stage.journals())
        return images == {stage.image("v1")} and not self.cron_is_suspended() and not stage.lease_holder() and closed

    def facts(self, step: str) -> Mapping[str, Any]:
        """What the newest report says of a step."""
        return next(one.facts for one in self.stage.reports()[-1].steps if one.name == step)

    def work(self, job: Document, log: Callable[[str], None]) -> JobDone:
        """What a Job does."""
        self.running += 1
        try:
            return self._work(job, log)
        finally:
            self.running -= 1

    def _work(self, job: Document, log: Callable[[str], None]) -> JobDone:
        attempt = int(job["metadata"]["labels"][ATTEMPT])
        container = next(one for one in job["spec"]["template"]["spec"]["containers"] if one["name"] == MIGRATES)
        self.variables.append(container)
        options = next(one["value"] for one in container["env"] if one["name"] == "PGOPTIONS")
        self.ran.append(job["metadata"]["name"])
        self.began.set()
        self.meanwhile(attempt)
        chosen = self.statements.get(attempt) or self.statements[max(self.statements)]
        with psycopg.connect(self.server.conninfo(self.database), options=options, autocommit=True) as connection:
            self.lock_timeouts += [row[0] for row in connection.execute("SHOW lock_timeout")]
            for statement in chosen:
                log(statement)
                try:
                    connection.execute(statement)  # type: ignore[call-overload]
                except psycopg.Error as error:
                    log(f"ERROR: {error}")
                    return JobDone(good=False, said="started=yes")
        return JobDone(good=True, said=self.said.get(attempt, "started=yes"))


@pytest.fixture
def migrating(
    stage: Stage,
    postgres_16: PostgresServer,
    fresh_database: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Migrating]:
    """`stage` with a migration and without a backup, on a fresh database. Steps are retried without waiting, tries for a lock almost so."""
    name = fresh_database(postgres_16, *TABLES)
    stage.settings["databases"] = {"app": postgres_16.database(name).model_dump(exclude_defaults=True)}
    stage.settings["release"] |= {
        "backup": False,
        "migration": {
            "database": "app",
            "command": ["migrate"],
            "secret": "database",
            "table": "migrations",
            "lock_table": "",
            "lock_timeout_ms": 100,
            "last_lock_timeout_ms": 300,
            "lock_attempts": 3,
        },
    }
    for step in (journaled, decide_on, decide_after_failure):
        monkeypatch.setattr(step, "retry_delay_seconds", [0.0, 0.0, 0.0])
    monkeypatch.setattr("core.migration_attempts.FIRST_PAUSE_MS", 20)
    found = Migrating(stage, postgres_16, name, {1: (ADD_COLUMN, applied("a_002"))})
    assert stage.controllers is not None
    stage.controllers.script("registry.test/hello", found.work)
    yield found
    wait_until(lambda: not found.running, "the Jobs have done their work", seconds=60)
