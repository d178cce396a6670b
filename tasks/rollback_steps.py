"""The steps of a rollback before anything is changed."""

from contextlib import suppress

from psycopg.rows import class_row

from core.digest_sql import PINNED_SETTINGS
from core.environment import Environment
from core.environment_database import Database
from core.errors import IntegrityError, NightshiftError
from core.fence import Document
from core.manifest import Manifest, Statistics
from core.merge_patch import without_nulls
from core.old_side import told_change
from core.release_journal import Journal
from core.release_plan import ReleasePlan, images_of, template_of
from core.release_rollback import backup_of, is_compatible, newest_release, passed_over, refuse, refuse_migrated
from core.rollout_change import ForeignChangeError, template_change
from core.writes_since import TableCounters, WritesSince, writes_since
from tasks.catalogue import read_manifest
from tasks.environments import load_environment
from tasks.fenced import fenced_change
from tasks.kubernetes_client import KubernetesClient
from tasks.kubernetes_kinds import find_kind
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.old_side import held_for
from tasks.open_traffic import open_traffic
from tasks.postgres import connect, describe, pin_session, translated
from tasks.recording import Notes
from tasks.release_journal import Journals
from tasks.release_records import read_plan
from tasks.release_run import Facts, ReleaseRun, release_of
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
    """The signed plan of the newest release that is live. Raise PermanentError when it cannot be taken back, saying why and what can be done instead."""
    environment = load_environment(environment_name)
    journals = closed_journals(environment)
    journal = newest_release(journals, environment_name, release_id)
    refuse_migrated(passed_over(journals, journal), journal, environment_name)
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
    require_way_back(environment, plan)
    return plan


def require_way_back(environment: Environment, plan: ReleasePlan) -> None:
    """Raise ForeignChangeError when somebody else changed the side that would take the traffic, and the one that has it serves."""
    release = release_of(environment)
    with KubernetesClient.open(release.context) as client:
        if plan.sides is not None and (told := held_for(client, environment, plan, None)):
            path = find_kind(client, "Deployment").path(release.namespace, plan.sides.live_name)
            if is_of_passed_over(environment, plan, client.get(path)):
                # `restore_old_side` brings it back.
                return
            undo = f"kubectl -n {release.namespace} rollout undo deployment/{plan.sides.live_name}"
            next_step = (
                f"Put it back to what it was ({undo}), then roll back; or start a release of the version that you want"
            )
            raise ForeignChangeError("roll back", environment.name, told, next_step)


def restore_old_side(run: ReleaseRun, notes: Notes) -> Facts:
    """Blue-green: give the side that served before its Pod template back, where a later release that was rolled back prepared that side for itself.

    What anybody else made of it is left as it is: the next step tells it. So is a side that has traffic.
    """
    sides = run.plan.sides
    if sides is None:
        return {"restored": 0}
    target = run.plan.deployments("api")[0]
    with run.client() as client:
        path = find_kind(client, "Deployment").path(run.release.namespace, sides.live_name)
        current = client.get(path)
        split = open_traffic(client, run.release, run.environment.name, sides.live, sides.following).read()
        if (
            split.of(sides.live.service)
            or not told_change(sides.live_name, template_of(current), target.before)
            or not is_of_passed_over(run.environment, run.plan, current)
        ):
            return {"restored": 0}
        prepared = target.model_copy(update={"after": template_of(current)})
        fenced_change(
            client,
            path,
            run.fence,
            lambda found: template_change(found, prepared, forward=False, commit=run.plan.commit, on=path),
        )
    notes.add(facts={"restored": sides.live_name})
    return {"restored": 1}


def is_of_passed_over(environment: Environment, plan: ReleasePlan, document: Document) -> bool:
    """Whether a Deployment has the Pod template of a release that came after this one and was rolled back."""
    journals, current = closed_journals(environment), without_nulls(template_of(document))
    chosen = next((one for one in journals if one.release_id == plan.release_id), None)
    for one in passed_over(journals, chosen) if chosen is not None else ():
        with suppress(ObjectMissingError):
            later = read_plan(environment, one.plan_id, one.plan_sha256)
            made = [without_nulls(target.after) for target in later.deployments("api")]
            if (
                later.sides is not None
                and document["metadata"]["name"] == later.sides.following_name
                and current in made
            ):
                return True
    return False


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
    front = plan.frontend
    moved = (
        [f"front end {', '.join(front.domains)}: {front.deployment} → {front.before}"]
        if front and not front.is_live
        else []
    )
    return moved + [
        f"{one.key} {name}: {image} → {images_of(one.before).get(name)}"
        for one in plan.targets
        for name, image in images_of(one.after).items()
        if image != images_of(one.before).get(name)
    ]
