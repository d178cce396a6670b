"""Restore a backup into a new database, prove it, and, when asked and approved, let it take the live one's place. Runbook: docs/restore.md.

Nothing is overwritten: the copy is made beside the live database under a name of its own. A run that waits for a person is suspended: its process ends,
and it goes on from the top, where the record in the bucket tells it that the copy is there.
"""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from core import run_names
from core.approval_text import choice_text, swap_text
from core.errors import ConfigurationError, NightshiftError
from core.evidence import Finding
from core.report_text import escape_markdown
from core.restore_record import WaitingCopy
from core.section import NAME_PATTERN
from core.swap_plan import before_name
from core.units import human_duration
from flows.approval import ATTEMPTS, ask, ask_for_approval, remember
from flows.run_names import named
from flows.unfinished_swap import open_what_was_left
from tasks.children import children_of_this_run
from tasks.damage import damage_marked, mark_taken_away, wholly_good
from tasks.recording import Record, RunRecord, outcome_sentence, utc_now
from tasks.report_steps import begin_run, end_run, write_report
from tasks.restore_plan import require_possible, show_plan
from tasks.restore_records import find_record, keep_record, require_still_there
from tasks.restore_request import RestoreRequest, complete_request
from tasks.restore_steps import choose_backup, offered_backups, restore_and_verify
from tasks.swap_steps import (
    check_swap,
    check_swap_early,
    is_swapped,
    opened_after_failure,
    swap,
    swap_facts,
    verify_again,
)

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]
# How long the question which backup is meant waits for its answer.
_CHOICE_HOURS = 24


class BackupChoice(RunInput):
    """What the run asks when no backup was named."""

    backup: str = Field(
        title="Backup",
        pattern=r"\S",
        description="newest-decoded, newest-proven, before:TIME or a backup's id; there is no default.",
    )


@flow(name="restore", flow_run_name=named(run_names.restore), persist_result=False)
def restore(  # noqa: PLR0917 - a form has as many fields as it has
    environment: EnvironmentName,
    database: str,
    backup: str = "",
    target: str = "",
    server: str = "",
    tables: list[str] = [],  # noqa: B006 - never changed, and the form in the UI shows it
    jobs: Annotated[int, Field(ge=0, le=32)] = 0,
    allow_missing_extensions: bool = False,
    masking: str = "",
    swap_live: bool = False,
    backup_of: str = "",
    dry_run: bool = False,
) -> State[None]:
    """Restore a backup into a new database beside the live one, and compare it with what was backed up.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        database: Which database: its name in the environment's file, [databases.NAME].
        backup: newest-decoded, newest-proven, `before:2026-03-01T12:00:00Z`, or a backup's id. Empty: the run shows both ages and what each would lose, and asks.
        target: Name of the new database. Empty: `NAME_restored_ID`, after the live database and the restore's id.
        server: Where: its name in the environment's file, [servers.NAME]. Empty: the only one there is. For a swap it is the live database's own server.
        tables: Only the data of these tables (`schema.table`) or schemas (`schema.*`); all definitions come along. Empty: everything.
        jobs: Parallel jobs of pg_restore. 0: as the environment's file says.
        allow_missing_extensions: Leave out extensions that the server does not have, and say so, instead of failing.
        masking: An SQL file on the worker that changes the copy after it was verified, in one transaction. A masked copy is never swapped in.
        swap_live: After the verified restore the run waits for an approval; then the copy takes the live database's name. The old one is kept under another name.
        backup_of: For a swap when the live database was renamed since the backup: its name in the backup. Without it such a swap is refused.
        dry_run: Only show what would be done, how long it should take, and what would refuse it. Nothing is changed, and no report is written.
    """
    run = begin_run(environment, flow="restore", run_id=str(flow_run.id), run_name=str(flow_run.name))
    record = Record(database)
    inputs = {
        "database": database,
        "backup": backup,
        "target": target,
        "tables": tables,
        "swap_live": swap_live,
        "backup_of": backup_of,
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
        backup_of=backup_of.strip(),
    )
    source, copied = run.environment.databases[database], run.environment.servers[request.server]
    live = source.name
    # On another server a masked copy may be called like the live database: no application of the live one goes there.
    is_live_name = (request.target, copied.host, copied.port) == (live, source.host, source.port)
    refuse_swap_of_less(request, swap_live=swap_live, is_live_name=is_live_name)

    with children_of_this_run():
        waiting = find_record(environment, request.restore_id)
        if waiting is not None and waiting.flow_run_id != run.run_id:
            raise ConfigurationError(
                "restore", request.restore_id, "another run has this restore's id", "Start it again"
            )
        if waiting is None or not waiting.named:
            # The backup of an attempt that was killed before its record was complete: its copy may be there, and is of no other one.
            wanted = waiting.restored.backup_id if waiting else backup or ask_which_backup(request)
            try:
                waiting = restore_beside(record, request, wanted, live=live if swap_live else None, dry_run=dry_run)
            except NightshiftError:
                return Failed(message=outcome_sentence([record])) if dry_run else end_run(run, [record], inputs)
            if waiting is None:
                return Completed(message=record.summary)
            write_report(run, [record], inputs)
        if swap_live and waiting.swapped_at is None:
            return swap_when_approved(run, request, waiting, inputs)
        require_still_there(waiting)
    return Completed(message=what_there_is(waiting, live))


def refuse_swap_of_less(request: RestoreRequest, *, swap_live: bool, is_live_name: bool) -> None:
    """Raise before anything is done when what was asked for can never take the live database's place: by a swap, or under its name where that is free."""
    if (swap_live or is_live_name) and (request.masking or request.tables or request.allow_missing_extensions):
        raise ConfigurationError(
            "restore and let it take the live database's place",
            request.database,
            "a masked or partial copy, or one without its extensions, never takes a live database's place",
            "Leave out masking, tables and allow_missing_extensions; or swap_live, and name another target than the live database",
        )


def ask_which_backup(request: RestoreRequest) -> str:
    """Suspend the run until a person says which backup, with both ages before their eyes, and return its id. Raise ConfigurationError when three answers named none."""
    choices = offered_backups(request.environment, request.database)
    if not choices:
        raise ConfigurationError(
            "restore",
            f"{request.environment}/{request.database}",
            "no backup is decoded yet",
            f"nightshift catalog {request.environment}",
        )
    text, wrong = choice_text(choices, request.database, f"{request.target} on {request.server}"), ""
    for attempt in range(1, ATTEMPTS + 1):
        question = f"choose-backup-{attempt}"
        # The choice means what stood beside it when it was made: hours later the newest one may be another.
        shown = remember(question, {one.choice: one.backup_id for one in choices})
        wanted = ask(BackupChoice, question, wrong + text, hours=_CHOICE_HOURS).backup.strip()
        try:
            return choose_backup(request.environment, request.database, shown.get(wanted, wanted)).backup_id
        except ConfigurationError as error:
            found = str(error)
            wrong = f"**{escape_markdown(found)}**\n\n"
    raise ConfigurationError(
        "choose a backup", request.database, f"asked {ATTEMPTS} times; {found}", "Start the restore again"
    )


def restore_beside(
    record: Record, request: RestoreRequest, wanted: str, *, live: str | None, dry_run: bool
) -> WaitingCopy | None:
    """Choose, plan, restore, verify; return the record of the copy, None of a dry run. `live`: the database that it is to replace. Errors are in the report's record."""
    if live is not None and not dry_run:
        with record.step("check the swap"):
            check_swap_early(request, live)
    with record.step("choose the backup") as notes:
        chosen = choose_backup(request.environment, request.database, wanted)
        facts = {"backup_id": chosen.backup_id, "state": chosen.shown_state, "asked_for": wanted}
        notes.add(
            facts=facts,
            findings=chosen.findings,
        )
    with record.step("plan") as notes:
        plan = show_plan(request, chosen, live=live, dry_run=dry_run)
        notes.add(facts={"plan": plan.rows})
        require_possible(request, plan, chosen.backup_id, dry_run=dry_run)
    if dry_run:
        record.finish(
            f"dry run: {chosen.backup_id} would become {request.target} on {request.server}; nothing was changed"
        )
        return None
    marking = damage_marked(
        record, request.environment, request.database, chosen.backup_id, flow="restore", run_id=request.flow_run_id
    )
    with marking, record.step("restore and verify") as notes:
        copy = restore_and_verify(request, chosen.backup_id)
        notes.add(facts=copy.facts, findings=copy.findings)
        if wholly_good(copy.restored, copy.verification):
            gone = mark_taken_away(request.environment, request.database, chosen.backup_id, request.flow_run_id)
            notes.add(facts={}, findings=gone)
    with record.step("keep the record"):
        keep_record(request, copy.restored)
    took = human_duration(copy.restored.ms)
    but = f" ({copy.restored.reservations})" if copy.restored.reservations else ""
    record.finish(f"{chosen.backup_id} is {request.target} on {request.server}, verified{but}, in {took}")
    return find_record(request.environment, request.restore_id)


def swap_when_approved(
    run: RunRecord, request: RestoreRequest, waiting: WaitingCopy, inputs: dict[str, object]
) -> State[None]:
    """Ask for the approval, verify the copy once more, swap, and report."""
    live = run.environment.databases[request.database].name
    asked, record, made = Record(request.database), Record(request.database), ""
    try:
        with asked.step("approve") as notes:
            open_what_was_left(run, waiting, live, inputs)
            plan = check_swap(waiting, live, request.accepted)
            if is_swapped(plan, waiting):
                return tell_of_the_swap(run, request, waiting, plan.live, inputs)
            choices = offered_backups(request.environment, request.database)
            text = swap_text(plan, waiting.restored.backup_id, waiting.restored.server, choices, utc_now())
            approval = ask_for_approval(
                "approve-swap", text, live, plan.identities, hours=run.environment.restore.approval_hours
            )
            notes.add(facts={"approver": approval.approver, "reason": approval.reason, "typed": approval.database_name})
        asked.finish(f"approved by {approval.approver}")
        # Who approved what stands in the evidence before anything is changed.
        write_report(run, [asked], inputs)
        # From its last comparison on the copy is closed, so that what was compared is what gets the name.
        with opened_after_failure(waiting, live):
            with record.step("verify again"):
                compared = verify_again(waiting, live)
            with record.step("swap") as notes:
                done = swap(waiting, live, compared, request.accepted)
                notes.add(facts=swap_facts(done))
        outcome = f"{live} is {waiting.restored.backup_id} now; outage {human_duration(done.outage_ms)}; before: {done.old_name}"
        made = f"THE SWAP WAS MADE, {outcome}; what failed came after it: "
        with record.step("keep the record"):
            keep_record(request, waiting.restored, swapped_as=done.old_name, old_oid=done.old_oid)
        record.finish(outcome)
    except NightshiftError:
        return end_run(run, [asked, record], inputs, told=[asked if asked.failed else record], made=made)
    return end_run(run, [asked, record], inputs, told=[record])


def tell_of_the_swap(
    run: RunRecord, request: RestoreRequest, waiting: WaitingCopy, live: str, inputs: dict[str, object]
) -> State[None]:
    """Report a swap that an earlier process of this run made and did not live to report."""
    record, old = Record(request.database), before_name(live, request.restore_id)
    with record.step("swap") as notes:
        text = "made by an earlier process of this run, which ended before it could report it: its outage is not known"
        notes.add(facts={"live": live, "old_name": old}, findings=[Finding(severity="warning", text=text)])
    with record.step("keep the record"):
        keep_record(request, waiting.restored, swapped_as=old)
    record.finish(f"{live} is {waiting.restored.backup_id} now; {text}; before: {old}")
    return end_run(run, [record], inputs)


def what_there_is(waiting: WaitingCopy, live: str) -> str:
    """Given the record of a copy that a run finds again at its end, and the live database's name, say what became of it."""
    but = f" ({waiting.restored.reservations})" if waiting.restored.reservations else ""
    copy = f"{waiting.restored.backup_id}, verified{but}"
    # A name may hold a line's end; the sentence is one line.
    live, name = (" ".join(one.splitlines()) for one in (live, waiting.restored.name))
    if waiting.swapped_at is None:
        return f"{name} on {waiting.restored.server} is {copy}"
    return f"{live} on {waiting.restored.server} is {copy}, since {waiting.swapped_at:%Y-%m-%d %H:%M:%S} UTC; before: {waiting.old_name}"
