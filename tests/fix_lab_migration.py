"""The environment `stage` on the real node with a migration, on a real PostgreSQL that its Pods reach."""

from typing import Any

import pytest
from prefect.client.schemas.objects import State

from core.migration_job import BARRIER
from tasks.release_recovery_steps import decide_after_failure, decide_on
from tasks.release_run import journaled
from tests.fix_pod_postgres import SQL_CLIENT, PodPostgres
from tests.fix_release import Stage
from tests.fix_release_migration import applied

TABLES = (
    "CREATE TABLE migrations (id serial PRIMARY KEY, name text)",
    "CREATE TABLE busy AS SELECT n AS a FROM generate_series(1, 100) AS n",
)
ADD_COLUMN, APPLIED = "ALTER TABLE busy ADD COLUMN b int", applied("a_001")


class Lab:
    """`stage` on the node, and its database."""

    def __init__(self, stage: Stage, postgres: PodPostgres) -> None:
        self.stage, self.postgres, self.database = stage, postgres, postgres.new_database(*TABLES)
        postgres.put_secret(stage.client, stage.namespace, self.database)
        login = postgres.server.database(self.database).model_dump(exclude_defaults=True)
        stage.settings["databases"] = {"app": login}
        stage.settings["release"] |= {"settle_seconds": 1}
        stage.settings["release"]["migration"] = {
            "database": "app",
            "secret": "database",
            "lock_image": "localhost/python:3",
            "table": "migrations",
            "lock_table": "",
        }
        self.migrates(ADD_COLUMN, APPLIED)

    def migrates(self, *statements: str, **settings: Any) -> None:
        """What the migration does, each statement a transaction, and further settings of it."""
        self.stage.settings["release"]["migration"] |= {
            "command": ["python3", "-c", SQL_CLIENT, *statements],
            **settings,
        }

    def release(self, image: str = "v2", **parameters: Any) -> State[Any]:
        """Release with the migration."""
        return self.stage.release(image, **{"migrate": True, **parameters})

    def jobs(self, release_id: str = "") -> list[dict[str, Any]]:
        """The Jobs that there are (of a release), but for those that only keep a late request from making one."""
        found = self.stage.client.list(f"/apis/batch/v1/namespaces/{self.stage.namespace}/jobs")
        return [
            one
            for one in found
            if release_id in one["metadata"]["name"] and BARRIER not in (one["metadata"].get("annotations") or {})
        ]

    def applied(self) -> list[str]:
        """The names in the table of migrations, in the order in which they came there."""
        with self.postgres.server.connect(self.database) as connection:
            return [str(row[0]) for row in connection.execute("SELECT name FROM migrations ORDER BY id")]

    def serves_old(self) -> bool:
        """Whether the old version serves, and nothing is left open."""
        stage = self.stage
        closed = all(not one.is_open for one in stage.journals())
        return stage.image_of() == stage.image("v1") and not stage.lease_holder() and closed


@pytest.fixture
def lab(lab_stage: Stage, pod_postgres: PodPostgres, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """`stage` on the node with a migration. Steps are retried soon, and the lease of the dead is soon believed to be that."""
    for step in (journaled, decide_on, decide_after_failure):
        monkeypatch.setattr(step, "retry_delay_seconds", [0.5, 0.5, 0.5])
    monkeypatch.setattr("core.migration_attempts.FIRST_PAUSE_MS", 200)
    monkeypatch.setattr("tasks.release_left_open.RENEW_SECONDS", 0.2)
    return Lab(lab_stage, pod_postgres)
