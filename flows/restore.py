"""Restore a backup into a new database, prove it, and, when asked and approved, let it take the live one's place. Runbook: docs/restore.md.

Nothing is overwritten: the copy is made beside the live database under a name of its own. A run that waits for a person is suspended: its process ends,
and it goes on from the top, where the record in the bucket tells it that the copy is there.
"""

from datetime import timedelta
from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from core.errors import ConfigurationError, NightshiftError
from core.restore_record import WaitingCopy
from core.section import NAME_PATTERN
from core.units import human_duration
from tasks.children import children_of_this_run
from tasks.recording import Record, RunRecord, outcome_sentence
from tasks.report_steps import begin_run, write_report
from tasks.restore_steps import (
    RestoreRequest,
    check_swap,
    check_swap_early,
    choose_backup,
    complete_request,
    find_record,
    keep_record,
    restore_and_verify,
    show_options,
    show_plan,
    swap,
    swap_facts,
    verify_again,
)

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]
_APPROVALS = 3


class BackupChoice(RunInput):
    """What the run asks when no backup was named."""

    backup: str


class SwapApproval(RunInput):
    """What the run asks before the copy takes the live database's place. Every field is required: an empty form approves nothing."""

    database_name: str
    approver: str
    reason: str


@flow(name="restore", flow_run_name="restore {environment}/{database}", persist_result=False)
def restore(  # noqa: PLR0917 - a form has as many fields as it has
    environment: EnvironmentName,
    database: str,
    backup: str = "",
    target: str = "",
    server: str = "",
    tables: list[str] = [],  # noqa: B006 - never changed, and the form in the UI shows it
    jobs: int = 0,
    allow_missing_extensions: bool = False,
    masking: str = "",
    swap_live: bool = False,
    dry_run: bool = False,
) -> State[None]:
    """Restore a backup into a new database beside the live one, and compare it with what was backed up.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        database: Which database: its name in the environment's file, [databases.NAME].
        backup: A backup's id, newest-proven, newest-decoded, or before:TIME. Empty: the run shows the ages of both and what each would lose, and asks.
        target: Name of the new database. Empty: the database's name, _restored_ and the restore's id.
        server: Where: a name of [servers.NAME]. Empty: the only one there is.
        tables: Only these tables (schema.table) or schemas (schema.*), with everything that is no data. Empty: all.
        jobs: Parallel jobs of pg_restore. 0: as the environment's file says.
        allow_missing_extensions: Leave out extensions that the server does not have, and say so, instead of failing.
        masking: An SQL file on the worker that changes the copy after it was verified, in one transaction. A masked copy is never swapped in.
        swap_live: After the verified restore ask for an approval, then let the copy take the live database's name. The old one is kept.
        dry_run: Only show what would be done, and how long it should take.
    """
    run = begin_run(environment, flow="restore", run_id=str(flow_run.id), run_name=str(flow_run.name))
    record = Record(database)
    inputs = {
        "database": database,
        "backup": backup,
        "target": target,
        "tables": tables,
        "swap_live": swap_live,
        "dry_run": dry_run,
    }
    request = complete_request(
        run.environment,
        database,
        server=server,
        target=target,
        flow_run_id=run.run_id,
        jobs=jobs,
        tables=tuple(tables),
        masking=masking,
        allow_missing_extensions=allow_missing_extensions,
    )
    refuse_swap_of_less(request, swap_live=swap_live)
    live = run.environment.databases[database].name

    with children_of_this_run():
        waiting = find_record(environment, request.restore_id)
        if waiting is not None and waiting.flow_run_id != run.run_id:
            raise ConfigurationError(
                "restore", request.restore_id, "another run has this restore's id", "Start it again"
            )
        if waiting is None:
            wanted = backup or ask_which_backup(request)
            try:
                waiting = restore_beside(record, request, wanted, live=live if swap_live else None, dry_run=dry_run)
            except NightshiftError:
                write_report(run, [record], inputs)
                return Failed(message=outcome_sentence([record]))
            if waiting is None:
                return Completed(message=record.summary)
            write_report(run, [record], inputs)
        if swap_live and waiting.swapped_at is None:
            return swap_when_approved(run, Record(database), request, waiting, inputs)
    return Completed(
        message=f"{waiting.restored.name} on {waiting.restored.server} is {waiting.restored.backup_id}, verified"
    )


def refuse_swap_of_less(request: RestoreRequest, *, swap_live: bool) -> None:
    """Raise before anything is done when what was asked for can never take the live database's place."""
    if swap_live and (request.masking or request.tables or request.allow_missing_extensions):
        raise ConfigurationError(
            "restore and swap",
            request.database,
            "a masked or partial copy, or one without its extensions, never takes a live database's place",
            "Leave out masking, tables and allow_missing_extensions, or swap_live",
        )


def ask_which_backup(request: RestoreRequest) -> str:
    """Suspend the run until a person says which backup, with both ages before their eyes."""
    text = show_options(request.environment, request.database)
    answer = suspend_flow_run(
        wait_for_input=BackupChoice.with_initial_data(description=f"Which backup of **{request.database}**?\n\n{text}"),
        key="choose-backup",
        timeout=int(timedelta(hours=24).total_seconds()),
    )
    return answer.backup


def restore_beside(
    record: Record, request: RestoreRequest, wanted: str, *, live: str | None, dry_run: bool
) -> WaitingCopy | None:
    """Choose, plan, restore, verify; return the record of the copy, None of a dry run. `live`: the database that it is to replace. Errors are in the report's record."""
    if live is not None:
        with record.step("check the swap"):
            check_swap_early(request, live)
    with record.step("choose the backup") as notes:
        chosen = choose_backup(request.environment, request.database, wanted)
        notes.add(facts={"backup_id": chosen.backup_id, "state": chosen.state, "asked_for": wanted})
    with record.step("plan") as notes:
        notes.add(facts={"plan": show_plan(request, chosen.backup_id)})
    if dry_run:
        record.finish(
            f"dry run: {chosen.backup_id} would become {request.target} on {request.server}; nothing was changed"
        )
        return None
    with record.step("restore and verify") as notes:
        copy = restore_and_verify(request, chosen.backup_id)
        notes.add(facts=copy.facts, findings=copy.findings)
    with record.step("keep the record"):
        keep_record(request, copy.restored)
    took = human_duration(copy.restored.ms)
    but = f" ({copy.restored.reservations})" if copy.restored.reservations else ""
    record.finish(f"{chosen.backup_id} is {request.target} on {request.server}, verified{but}, in {took}")
    return find_record(request.environment, request.restore_id)


def swap_when_approved(
    run: RunRecord, record: Record, request: RestoreRequest, waiting: WaitingCopy, inputs: dict[str, object]
) -> State[None]:
    """Ask for the approval, verify the copy once more, swap, and report."""
    live = run.environment.databases[request.database].name
    try:
        with record.step("approve") as notes:
            approval = ask_for_approval(run, waiting, live)
            notes.add(facts={"approver": approval.approver, "reason": approval.reason, "typed": approval.database_name})
        with record.step("verify again"):
            verify_again(waiting)
        with record.step("swap") as notes:
            done = swap(waiting, live)
            notes.add(facts=swap_facts(done))
        with record.step("keep the record"):
            keep_record(request, waiting.restored, swap=done)
        record.finish(
            f"{live} is {waiting.restored.backup_id} now; outage {human_duration(done.outage_ms)}; before: {done.old_name}"
        )
    except NightshiftError:
        write_report(run, [record], inputs)
        return Failed(message=outcome_sentence([record]))
    write_report(run, [record], inputs)
    return Completed(message=outcome_sentence([record]))


def ask_for_approval(run: RunRecord, waiting: WaitingCopy, live: str) -> SwapApproval:
    """Suspend the run until a person typed the live database's name, who they are and why. Raise ConfigurationError after three wrong names."""
    plan = check_swap(waiting, live)
    for attempt in range(1, _APPROVALS + 1):
        again = "" if attempt == 1 else "**The name typed was not the live database's.** "
        answer = suspend_flow_run(
            wait_for_input=SwapApproval.with_initial_data(
                description=f"{again}Type the live database's name to let the copy take its place.\n\n{plan}"
            ),
            key=f"approve-swap-{attempt}",
            timeout=run.environment.restore.approval_hours * 3600,
        )
        if answer.database_name == live and answer.approver.strip() and answer.reason.strip():
            return answer
    raise ConfigurationError("approve the swap", live, "three times another name was typed", "Start the restore again")
