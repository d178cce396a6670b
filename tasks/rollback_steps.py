"""The steps of a rollback before anything is changed."""

from psycopg.rows import class_row

from core.digest_sql import PINNED_SETTINGS
from core.environment import Database, Environment
from core.errors import IntegrityError, NightshiftError
from core.manifest import Manifest, Statistics
from core.release_journal import Journal
from core.release_plan import ReleasePlan, images_of
from core.release_rollback import backup_of, is_compatible, newest_release, refuse
from core.writes_since import TableCounters, WritesSince, writes_since
from tasks.catalogue import read_manifest
from tasks.environments import load_environment
from tasks.kubernetes_client import KubernetesClient
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.postgres import connect, describe, pin_session, translated
from tasks.release_journal import Journals
from tasks.release_records import read_plan
from tasks.release_run import release_of
from tasks.retrying import step
from tasks.secrets import signing_keys

_COUNTERS = """
    SELECT relid::bigint AS oid, schemaname AS schema_name, relname AS name, n_tup_ins AS inserted, n_tup_upd AS updated, n_tup_del AS deleted
    FROM pg_catalog.pg_stat_user_tables ORDER BY relid
"""
_RESET = "SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()"


def rollback_id_of(flow_run_id: str) -> str:
    """Given the id of a flow run, return the id of its rollback: the same for a run that is started again."""
    return f"b-{flow_run_id.replace('-', '')[:12]}"


@step("choose the release that is taken back")
def choose_release(environment_name: str, release_id: str) -> ReleasePlan:
    """The signed plan of the newest release. Raise PermanentError when it cannot be taken back, saying why and what can be done instead."""
    environment = load_environment(environment_name)
    journal = newest_release(closed_journals(environment), environment_name, release_id)
    try:
        plan = read_plan(environment, journal.plan_id, journal.plan_sha256)
    except ObjectMissingError as error:
        raise IntegrityError(
            "read the release's plan",
            error.on,
            "it is not in the bucket any more",
            "Start a release of the version that you want",
        ) from error
    if not is_compatible(plan, journal):
        raise refuse(plan, journal, what_would_be_lost(environment, backup_of(plan, journal)))
    return plan


def what_would_be_lost(environment: Environment, backup: tuple[str, str] | None) -> str:
    """Given a database and a backup's id, return in words what was written since. That it cannot be found out is said, and no reason to go back."""
    if backup is None:
        return ""
    name, backup_id = backup
    try:
        manifest, _ = read_manifest(
            ObjectStore.open(environment), environment, name, backup_id, signing_keys(environment)
        )
        return str(read_writes_since(environment.databases[name], manifest))
    except (NightshiftError, KeyError) as error:
        return f"how much is not known, {error}"


def read_writes_since(database: Database, manifest: Manifest) -> WritesSince:
    """Given a database and a backup of it, read its counters and return what was written since. Raise TemporaryError when it is away."""
    on = describe(database)
    with connect(database, application_name="nightshift counts writes") as connection, translated("count writes", on):
        pin_session(connection, PINNED_SETTINGS)
        with connection.cursor(row_factory=class_row(TableCounters)) as cursor:
            live = cursor.execute(_COUNTERS).fetchall()
        row = connection.execute(_RESET).fetchone()
    return writes_since(manifest, live, Statistics(stats_reset=row[0] if row else None))


def closed_journals(environment: Environment) -> tuple[Journal, ...]:
    """The verified journals of what came to its end, oldest first. Raise IntegrityError when somebody edited one."""
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        journals = Journals(client, release, environment.name, signing_keys(environment))
        return tuple(journals.parse(one) for one in journals.closed_documents())


def way_back(plan: ReleasePlan) -> list[str]:
    """Each change of the way back, one line each."""
    return [
        f"{one.key} {name}: {image} → {images_of(one.before).get(name)}"
        for one in plan.targets
        for name, image in images_of(one.after).items()
        if image != images_of(one.before).get(name)
    ]
