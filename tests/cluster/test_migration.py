"""A migration's Job on a real node with a real PostgreSQL: what came of it is told by the table and the catalogue."""

import hashlib
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from core.environment import Environment
from core.errors import PermanentError
from core.migration_attempts import AttemptPlan
from core.migration_end import finished
from core.migration_job import barrier, job_name
from core.migration_outcome import Judgement
from core.migration_scripts import LOCK_CLASS, LOCK_OBJECT
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.migration_job import end_job, look_at_job, pods_of, start_job
from tasks.migration_steps import migrate_once, migration_document, state_before, wait_and_judge
from tests.fix_cluster import image_turn, lab_program
from tests.fix_pod_postgres import SQL_CLIENT, PodPostgres
from tests.waiting import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(800)]
PYTHON = "localhost/python:3"
TABLE = "CREATE TABLE migrations (id serial PRIMARY KEY, name text)"


@dataclass
class Lab:
    """One release's migrations in a namespace of the test's own, on a database of its own."""

    client: KubernetesClient
    namespace: str
    postgres: PodPostgres
    database: str
    release: str = field(default_factory=lambda: f"r{secrets.token_hex(4)}")
    lines: list[str] = field(default_factory=list)

    def environment(self, **migration: Any) -> Environment:
        chosen = {
            "database": "app",
            "secret": "database",
            "lock_image": PYTHON,
            "table": "migrations",
            "lock_table": "",
            **migration,
        }
        release = {
            "namespace": self.namespace,
            "repository": "localhost/migrate",
            "workloads": [{"name": "api-server"}],
            "migration": {"command": ["sh", "/migrate.sh"], **chosen},
        }
        database = self.postgres.server.database(self.database).model_dump()
        return Environment.model_validate(
            {
                "name": "lab",
                "store": {"bucket": "lab-bucket"},
                "signing": {"key": "env:NOT_USED"},
                "databases": {"app": database},
                "release": release,
            }
        )

    def document(
        self,
        environment: Environment,
        image: str = PYTHON,
        *statements: str,
        attempt: int = 1,
        lock_timeout_ms: int = 500,
    ) -> dict[str, Any]:
        command = ("python3", "-c", SQL_CLIENT, *statements) if statements else ()
        return migration_document(
            environment, self.release, AttemptPlan(attempt=attempt, lock_timeout_ms=lock_timeout_ms), image, command
        )

    def migrate(self, environment: Environment, document: dict[str, Any]) -> Judgement:
        return migrate_once(self.client, environment, document, on_line=self.lines.append, still_ours=lambda: None)

    def run(self, *statements: str, **migration: Any) -> Judgement:
        """Run statements, each a transaction, as the migration."""
        environment = self.environment(**migration)
        return self.migrate(environment, self.document(environment, PYTHON, *statements))

    def execute(self, *statements: str) -> None:
        self.postgres.server.execute(self.database, *statements)


@pytest.fixture
def lab(cluster: KubernetesClient, drill_namespace: str, pod_postgres: PodPostgres) -> Lab:
    database = pod_postgres.new_database()
    pod_postgres.put_secret(cluster, drill_namespace, database)
    return Lab(cluster, drill_namespace, pod_postgres, database)


@pytest.fixture
def migrate_image(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A factory: given the migrations by name, an image of the lab's that runs them with psql."""
    program = lab_program("apps/migrate/build.sh")

    def build(**files: str) -> str:
        folder = tmp_path / "migrations"
        folder.mkdir()
        for name, text in files.items():
            (folder / f"{name}.sql").write_text(text)
        # The same files make the same tag: runs leave no more images behind than there are.
        tag = f"nightshift-test-{hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]}"
        with image_turn():
            made = subprocess.run(
                ["bash", program, tag, folder],
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        assert made.returncode == 0, made.stderr
        return f"localhost/migrate:{tag}"

    yield build


def test_a_good_migration_is_applied_once_and_its_log_comes_line_by_line(
    lab: Lab, migrate_image: Callable[..., str]
) -> None:
    # On a busy node a session of a few milliseconds may go unseen.
    image = migrate_image(a_001="CREATE TABLE a (x int)", a_002="SELECT pg_sleep(2); CREATE TABLE b (x int)")
    pending = "psql -X -At \"$DATABASE_URL\" -c \"SELECT 'c' WHERE NOT EXISTS (SELECT FROM schema_migrations WHERE name = 'a_002.sql')\""
    environment = lab.environment(table="schema_migrations", named_by="PGAPPNAME", pending_command=pending)
    document = lab.document(environment, image)
    judgement = lab.migrate(environment, document)
    assert (judgement.outcome, judgement.applied, judgement.good) == ("applied", ("a_001.sql", "a_002.sql"), True), (
        judgement
    )
    assert [(one.name, one.state) for one in judgement.findings] == [
        ("lock_timeout", "passed"),
        ("advisory lock", "passed"),
    ]
    assert [line for line in lab.lines if "migration" in line] == [
        '{"migration": "a_001.sql", "result": "applied"}',
        '{"migration": "a_002.sql", "result": "applied"}',
    ]
    # The same document again: the same Job is found, and says the same; nothing is run.
    assert start_job(lab.client, lab.namespace, document)["status"]["succeeded"] == 1
    look = look_at_job(lab.client, lab.namespace, lab.release, 1)
    assert look.end is not None
    assert (look.state, look.end.state, look.end.pending, look.end.started) == ("ended", "succeeded", (), True)
    assert len(pods_of(lab.client, lab.namespace, job_name(lab.release, 1))) == 1
    again = lab.document(environment, image, attempt=2)
    assert lab.migrate(environment, again).outcome == "nothing-to-do"


def test_a_migration_that_fails_half_way_is_partial(lab: Lab, migrate_image: Callable[..., str]) -> None:
    image = migrate_image(a_001="CREATE TABLE a (x int)", a_002="CREATE TABLE b (x int); SELECT 1/0")
    environment = lab.environment(table="schema_migrations", named_by="PGAPPNAME")
    judgement = lab.migrate(environment, lab.document(environment, image))
    assert (judgement.outcome, judgement.again) == ("partial", "")
    assert "the migration table has 1 names, and had 0 and the schema is another one" in judgement.sentence
    assert any("division by zero" in line for line in lab.lines)


def test_a_migration_that_fails_and_changes_nothing_is_clean(lab: Lab, migrate_image: Callable[..., str]) -> None:
    # Its own table was made, as knex does before its first migration; that is no change.
    image = migrate_image(a_001="CREATE TABLE b (x int); SELECT 1/0")
    environment = lab.environment(table="schema_migrations", named_by="PGAPPNAME")
    judgement = lab.migrate(environment, lab.document(environment, image))
    assert (judgement.outcome, judgement.again) == ("clean", "")
    assert judgement.sentence == "the migration failed (exit code 3); nothing was changed"


def test_an_index_that_was_left_invalid_fails_a_job_that_succeeded(lab: Lab) -> None:
    lab.execute(TABLE, "CREATE TABLE t AS SELECT 1 AS a FROM generate_series(1, 2)")
    environment = lab.environment()
    document = lab.document(environment, PYTHON, "CREATE UNIQUE INDEX CONCURRENTLY twice ON t (a)")
    migrate = document["spec"]["template"]["spec"]["containers"][0]["args"][2:]
    command = ("sh", "-c", '"$@" || echo "swallowed"', "sh", *migrate)
    document = migration_document(
        environment, lab.release, AttemptPlan(attempt=1, lock_timeout_ms=500), PYTHON, command
    )
    judgement = lab.migrate(environment, document)
    assert "swallowed" in lab.lines
    assert (judgement.outcome, judgement.good) == ("partial", False)
    assert judgement.sentence == "the Job succeeded and left invalid indexes: public.twice"


def test_a_second_migrator_is_locked_out_and_the_holder_is_named(lab: Lab) -> None:
    lab.execute(TABLE)
    with lab.postgres.server.connect(lab.database) as other:
        other.execute("SET application_name = 'the other one'")
        other.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, LOCK_OBJECT))
        environment = lab.environment(lock_wait_seconds=2)
        document = lab.document(environment, PYTHON, "CREATE TABLE never (a int)")
        before = state_before(environment)
        start_job(lab.client, lab.namespace, document)
        _end, after, judgement = wait_and_judge(
            lab.client, environment, document, before, on_line=lab.lines.append, still_ours=lambda: None
        )
        # It is there still: of nothing that was not started one waits for the end.
        assert [one.pid for one in after.sessions] == [other.info.backend_pid]
        assert judgement.outcome == "clean"
        holder = f"pid {other.info.backend_pid}, application 'the other one', client 127.0.0.1"
        assert f"another migrator holds its lock ({holder})" in judgement.sentence
        assert after.names == ()


def test_a_lock_that_is_not_to_be_had_is_given_up_so_that_traffic_waits_only_so_long(lab: Lab) -> None:
    lab.execute(TABLE, "CREATE TABLE busy AS SELECT 1 AS a")
    with (
        lab.postgres.server.connect(lab.database, autocommit=False) as reader,
        lab.postgres.traffic(lab.database) as took,
    ):
        reader.execute("SELECT count(*) FROM busy")
        judgement = lab.run("ALTER TABLE busy ADD COLUMN b int")
        reader.rollback()
    assert (judgement.outcome, judgement.again) == ("clean", "lock-timeout"), (judgement, lab.lines)
    assert ("lock_timeout", "passed") in [(one.name, one.state) for one in judgement.findings]
    # It queued behind the ALTER TABLE, for lock_timeout (500 ms) and no longer; a generous limit.
    assert 0.2 < max(took) < 8
    assert len(took) > 50


def test_a_job_whose_image_cannot_be_pulled_is_ended_with_the_cause_and_kept(lab: Lab) -> None:
    lab.execute(TABLE)
    environment = lab.environment()
    document = lab.document(environment, "localhost/never-made:1", "CREATE TABLE never (a int)")
    judgement = lab.migrate(environment, document)
    assert judgement.outcome == "clean", judgement
    assert "was not started (ImagePullBackOff: container migrate: its image cannot be pulled" in judgement.sentence
    look = look_at_job(lab.client, lab.namespace, lab.release, 1)
    assert look.end is not None
    assert look.end.reason.startswith("DeadlineExceeded")
    assert pods_of(lab.client, lab.namespace, job_name(lab.release, 1)) == []


def test_what_a_killed_migration_left_running_in_the_server_is_waited_for(lab: Lab) -> None:
    lab.execute(TABLE)
    environment = lab.environment()
    document = lab.document(environment, PYTHON, "SELECT pg_sleep(25); CREATE TABLE late (a int)")
    before = state_before(environment)
    start_job(lab.client, lab.namespace, document)
    name = document["metadata"]["name"]

    def runs() -> bool:
        with lab.postgres.server.connect(lab.database) as connection:
            asked = "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s AND state = 'active'"
            return connection.execute(asked, (name,)).fetchone() == (1,)

    wait_until(runs, "the migration's statement runs", seconds=120)
    end_job(lab.client, lab.namespace, name)
    end, after, judgement = wait_and_judge(
        lab.client, environment, document, before, on_line=lab.lines.append, still_ours=lambda: None
    )
    assert end.reason.startswith("DeadlineExceeded")
    assert end.killed
    assert after.sessions == ()
    assert judgement.outcome == "partial", judgement


def test_a_job_that_only_takes_a_name_has_no_pod_and_keeps_the_migration_from_being_made(lab: Lab) -> None:
    document = lab.document(lab.environment(), PYTHON)
    jobs, name = find_kind(lab.client, "Job").path(lab.namespace), document["metadata"]["name"]
    lab.client.create(jobs, barrier(document))
    with pytest.raises(PermanentError, match="from another document"):
        start_job(lab.client, lab.namespace, document)
    look = look_at_job(lab.client, lab.namespace, lab.release, 1)
    assert (look.state, look.barred) == ("never created", True)
    # A Pod of any other Job is there within this time.
    time.sleep(3)
    assert pods_of(lab.client, lab.namespace, name) == []
    # Should somebody let it go on, it does nothing.
    lab.client.merge(f"{jobs}/{name}", {"spec": {"parallelism": 1}})
    wait_until(lambda: finished(lab.client.get(f"{jobs}/{name}")) == "Failed", "it has ended", seconds=120)
