"""One attempt of a migration in its steps: look, make the Job, wait for it, look again, judge. Each may be repeated; the caller's journal stands around them."""

from collections.abc import Callable
from typing import Any

from core.environment import Environment
from core.environment_database import Database
from core.environment_migration import Migration
from core.errors import PermanentError
from core.migration_attempts import AttemptPlan
from core.migration_end import JobEnd
from core.migration_job import MigrationOrder, job_document
from core.migration_outcome import Judgement, MigrationState, judge
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_job import read_template, start_job
from tasks.migration_state import QUIET_SECONDS, read_state, state_when_quiet
from tasks.migration_wait import SETTLE_SECONDS, wait_for_job

Document = dict[str, Any]


def migration_settings(environment: Environment) -> tuple[Migration, Database, str]:
    """Given an environment, return its migration's settings, its database and the namespace of its Jobs. Raise PermanentError when it has no migration."""
    release = environment.release
    if release is None or release.migration is None:
        raise PermanentError(
            "migrate", f"environment {environment.name}", "it has no [release.migration]", "Add the table"
        )
    return release.migration, environment.databases[release.migration.database], release.namespace


def migration_document(
    environment: Environment, release: str, plan: AttemptPlan, image: str, command: tuple[str, ...] = ()
) -> Document:
    """Given a release's id, an attempt's plan and the image (by digest), return the Job's document, the same each time. Raise ConfigurationError."""
    settings, _database, namespace = migration_settings(environment)
    return job_document(
        MigrationOrder(
            release=release,
            environment=environment.name,
            namespace=namespace,
            attempt=plan.attempt,
            image=image,
            lock_timeout_ms=plan.lock_timeout_ms,
            settings=settings,
            command=command,
            template=read_template(settings.template),
        )
    )


def state_before(environment: Environment) -> MigrationState:
    """The database's state before an attempt, to be kept in the journal with the intent."""
    settings, database, _namespace = migration_settings(environment)
    return read_state(database, settings)


def wait_and_judge(
    client: KubernetesClient,
    environment: Environment,
    document: Document,
    before: MigrationState,
    *,
    on_line: Callable[[str], None],
    still_ours: Callable[[], None],
) -> tuple[JobEnd, MigrationState, Judgement]:
    """Given a Job that was made and the state before it, wait for its end and say what came of it. For recovery too: it may have ended long ago."""
    settings, _database, namespace = migration_settings(environment)
    end = wait_for_job(
        client,
        namespace,
        document["metadata"]["name"],
        seconds=document["spec"]["activeDeadlineSeconds"] + 2 * SETTLE_SECONDS,
        on_line=on_line,
        still_ours=still_ours,
        start_seconds=settings.start_seconds,
    )
    return end, *judge_end(environment, before, end)


def judge_end(environment: Environment, before: MigrationState, end: JobEnd) -> tuple[MigrationState, Judgement]:
    """Given how a Job ended, return the state after it and what came of it, once no session of it lives. Raise TemporaryError when the database is away."""
    settings, database, _namespace = migration_settings(environment)
    # When nothing was started, there is nothing to wait for: another migrator may go on for long.
    patience = 0.0 if end.started is False else QUIET_SECONDS
    after = state_when_quiet(database, settings, addresses=end.addresses, seconds=patience)
    return after, judge(before, after, end, settings)


def migrate_once(
    client: KubernetesClient,
    environment: Environment,
    document: Document,
    *,
    on_line: Callable[[str], None],
    still_ours: Callable[[], None],
) -> Judgement:
    """Given a Job's document, do all of one attempt. A journal that must survive a crash calls the steps by themselves: intent, `start_job`, the rest."""
    before = state_before(environment)
    still_ours()
    start_job(client, document["metadata"]["namespace"], document)
    _end, _after, judgement = wait_and_judge(
        client, environment, document, before, on_line=on_line, still_ours=still_ours
    )
    return judgement
