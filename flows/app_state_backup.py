"""The backup of an environment's application state by Velero, and its rehearsal. Runbook: docs/app-state.md.

PartiallyFailed is a failure: something is not in the backup, and nobody knows yet what. A killed run that is started again with its id finds its own Backup and
goes on waiting for it.
"""

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from core import run_names
from core.environment_restore import AppState
from core.evidence import Finding
from core.state_comparison import Inventory
from core.state_facts import (
    app_state_of,
    inventory_facts,
    order_facts,
    rehearsal_facts,
    rehearsal_findings,
)
from core.velero import VeleroRun, backup_name, run_facts, run_findings
from core.velero_results import VeleroErrors, error_findings, has_errors
from flows.nightly_backup import EnvironmentName
from flows.run_names import named
from tasks.app_state_steps import (
    ask_for_backup,
    check_cluster,
    compare_with_backup,
    find_errors,
    list_objects,
    remove_scratch,
    restore_beside,
    try_backup,
    wait_for_velero,
)
from tasks.recording import Notes, Record
from tasks.report_steps import begin_run, end_run


class Made:
    """The Backup of this run, once it is made, and its namespaces before and after it. `before` is empty where the run was taken up again.

    Not a dataclass on purpose: Prefect hands it to tasks as it is, without looking inside.
    """

    def __init__(self) -> None:
        self.backup: VeleroRun | None = None
        self.before: tuple[Inventory, ...] = ()
        self.after: tuple[Inventory, ...] = ()


@flow(name="app-state-backup", flow_run_name=named(run_names.app_state_backup), persist_result=False)
def app_state_backup(environment: EnvironmentName, drill: bool = False, dry_run: bool = False) -> State[None]:
    """Back up an environment's namespaces with Velero and wait for the end; on demand, restore them beside and compare.

    The UI's form shows what is said here of each parameter.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml. It needs a table [app_state].
        drill: Also rehearse the restore: each namespace into the scratch namespace, where nothing can start; compared, then removed.
        dry_run: Check everything and show what would be backed up; nothing is made in the cluster.
    """
    run = begin_run(environment, flow="app-state-backup", run_id=str(flow_run.id), run_name=str(flow_run.name))
    settings = app_state_of(environment, run.environment.app_state)
    made, records = Made(), [Record("application state")]
    name = backup_name(environment, run.started, run.run_id)
    get_run_logger().info("backing up %s with Velero", ", ".join(settings.namespaces))

    # A failing step is in the record; its state is not raised, so that the report is written whatever happens.
    if dry_run:
        try_it(environment, records[0], name, run.run_id, drill=drill, return_state=True)
    else:
        back_up_state(
            environment, settings, records[0], made, name=name, run_id=run.run_id, drill=drill, return_state=True
        )
        if drill and not records[0].failed:
            for namespace in settings.namespaces:
                records.append(Record(namespace))
                rehearse(
                    environment, settings, records[-1], made, namespace=namespace, run_id=run.run_id, return_state=True
                )

    return end_run(run, records, {"drill": drill, "dry_run": dry_run})


@task(task_run_name="try to back up application state", cache_policy=NO_CACHE, persist_result=False)
def try_it(environment: str, record: Record, name: str, run_id: str, *, drill: bool) -> None:
    """Check everything, and have the API server check the Backup: nothing is made."""
    with record.step("check before") as notes:
        notes.add_checks(check_cluster(environment, drill=drill))

    with record.step("what would be backed up") as notes:
        notes.add(facts=inventory_facts(list_objects(environment)))

    with record.step("try the Backup") as notes:
        try_backup(environment, name, run_id)
        notes.add(facts={"backup": name}, findings=[Finding(severity="note", text="the API server would take it")])

    record.finish("dry run: all checks passed, nothing was made")


@task(task_run_name="back up application state", cache_policy=NO_CACHE, persist_result=False)
def back_up_state(
    environment: str, settings: AppState, record: Record, made: Made, *, name: str, run_id: str, drill: bool
) -> None:
    """Make the Backup and wait for its end. What is in the namespaces is listed before and after only where a rehearsal will compare it."""
    with record.step("check before") as notes:
        notes.add_checks(check_cluster(environment, drill=drill))

    if drill:
        with record.step("list the objects before") as notes:
            made.before = list_objects(environment)
            notes.add(facts=inventory_facts(made.before))

    with record.step("ask Velero") as notes:
        asked = ask_for_backup(environment, name, run_id)
        again = [Finding(severity="note", text="this run made it before and goes on waiting")] if asked.again else []
        notes.add(facts={"backup": asked.backup.name, **order_facts(settings)}, findings=again)
        # What was listed now is not what was there before a Backup that was made earlier.
        made.before = () if asked.again else made.before

    with record.step("wait for Velero") as notes:
        made.backup = wait_for_velero(environment, "backups", asked.backup.name)
        note_end(environment, settings, notes, made.backup, run_id)

    if drill and made.backup.well:
        with record.step("list the objects after") as notes:
            made.after = list_objects(environment)
            notes.add(facts=inventory_facts(made.after))

    record.finish(f"Backup {made.backup.name} {made.backup.standing}")


@task(task_run_name="rehearse {namespace}", cache_policy=NO_CACHE, persist_result=False)
def rehearse(environment: str, settings: AppState, record: Record, made: Made, *, namespace: str, run_id: str) -> None:
    """Restore one namespace into the scratch namespace, compare it, and remove it whatever happened."""
    backup = made.backup
    assert backup is not None  # noqa: S101 - a Backup that failed is not rehearsed
    before = next((one for one in made.before if one.namespace == namespace), None)
    after = next(one for one in made.after if one.namespace == namespace)
    try:
        with record.step("restore beside") as notes:
            begun = restore_beside(environment, backup.name, namespace, run_id)
            restore = wait_for_velero(environment, "restores", begun.restore.name)
            note_end(environment, settings, notes, restore, run_id)

        with record.step("compare") as notes:
            found = compare_with_backup(environment, begun, backup.created, before=before, after=after, run_id=run_id)
            notes.add(
                facts=rehearsal_facts(found.compared, found.left_out),
                findings=rehearsal_findings(namespace, found.compared, found.left_out, found.unreadable),
            )
    finally:
        with record.step("remove the scratch namespace") as notes:
            notes.add(facts={"removed": remove_scratch(environment, run_id)})

    objects = sum(one.restored for one in found.compared)
    record.finish(f"{objects} objects restored beside and compared")


def note_end(environment: str, settings: AppState, notes: Notes, run: VeleroRun, run_id: str) -> None:
    """Note how a Backup or Restore ended, and, when not well, what Velero says of it."""
    notes.add(facts=run_facts(run))
    errors = find_errors(environment, run, run_id) if has_errors(run) else VeleroErrors()
    first = next(iter(errors.texts), "")
    ended = run_findings(run, settings.velero_namespace, first)
    notes.add(facts={}, findings=(*ended, *error_findings(run, errors, settings.velero_namespace)))
