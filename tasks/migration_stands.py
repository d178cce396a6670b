"""How a release's migration stands, for whoever decides what becomes of the release: does it run, and is the database migrated?"""

import itertools

from core.environment import Environment
from core.errors import NightshiftError
from core.migration_end import JobEnd
from core.migration_outcome import Judgement, MigrationState
from core.release_journal import Journal
from core.release_plan import ReleasePlan
from core.release_recovery import MIGRATE, Applied, made_step
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_before import read_before
from tasks.migration_job import look_at_job
from tasks.migration_steps import judge_end, migration_settings
from tasks.object_store import ObjectMissingError


def migration_stands(
    client: KubernetesClient, environment: Environment, plan: ReleasePlan, journal: Journal | None
) -> tuple[bool, Applied]:
    """For whoever decides: whether the release's migration runs (a Job, or a session of one), and whether the database is migrated.

    Looks at the Jobs and the database, not at the journal alone. Raise TemporaryError when the database is away and the way back needs to know.
    """
    if plan.migration is None:
        return False, ""
    if journal is not None and journal.is_done(MIGRATE):
        return False, "yes" if journal.facts_of(MIGRATE).get("applied") else "no"
    try:
        return _stands(client, environment, plan, journal)
    except _AwayError as error:
        if plan.schema_compatibility == "breaking":
            raise error.cause from error
        # The old version works with the schema either way; that the database is away must not keep it from coming back.
        return False, "unknown"


def _stands(
    client: KubernetesClient, environment: Environment, plan: ReleasePlan, journal: Journal | None
) -> tuple[bool, Applied]:
    _settings, _database, namespace = migration_settings(environment)
    applied: Applied = "no"
    # Not by the settings: more attempts may have been made than the file allows by now.
    for number in itertools.count(1):
        look = look_at_job(client, namespace, plan.release_id, number)
        if look.state == "running":
            return True, "unknown"
        try:
            before = read_before(environment, plan.release_id, number)
        except ObjectMissingError:
            # It is kept before the Job is made.
            return False, applied if look.end is None else "unknown"
        known = journal is not None and journal.is_done(made_step(number))
        # A Job that is known to have been made and is gone tells nothing any more; of one that may have been made, the database tells.
        end = look.end or JobEnd(state="gone" if known else "never created")
        after, judgement = _judge(environment, before, end)
        if after.sessions and judgement.outcome == "unknown":
            # Another migrator's, which kept ours from being started, is not waited for.
            return True, "unknown"
        if judgement.outcome in {"partial", "unknown"}:
            return False, "partly" if judgement.outcome == "partial" else "unknown"
        if judgement.outcome == "applied":
            applied = "partly" if judgement.again else "yes"
        if end.state == "never created":
            break
    return False, applied


class _AwayError(Exception):
    """The database could not be asked. `cause`: why."""

    def __init__(self, cause: NightshiftError) -> None:
        super().__init__(str(cause))
        self.cause = cause


def _judge(environment: Environment, before: MigrationState, end: JobEnd) -> tuple[MigrationState, Judgement]:
    try:
        return judge_end(environment, before, end)
    except NightshiftError as error:
        raise _AwayError(error) from error
