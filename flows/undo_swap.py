"""The way back from a swap: the database that served before gets its name again. Runbook: docs/restore.md."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from core.errors import ConfigurationError, NightshiftError
from core.section import NAME_PATTERN
from core.units import human_duration
from tasks.recording import Record, outcome_sentence
from tasks.report_steps import begin_run, write_report
from tasks.restore_steps import find_record, swap_back, swap_facts

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]


class UndoApproval(RunInput):
    """What the run asks first. Every field is required: an empty form approves nothing."""

    database_name: str
    approver: str
    reason: str


@flow(name="undo-swap", flow_run_name="undo swap {restore_id}", persist_result=False)
def undo_swap(environment: EnvironmentName, restore_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]) -> State[None]:
    """Give the name back to the database that served before a swap. What was written since to the swapped-in one stays in it, under another name.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        restore_id: The restore's id, eight hexadecimal digits, as the swap's report and the old database's name tell it.
    """
    run = begin_run(environment, flow="undo-swap", run_id=str(flow_run.id), run_name=str(flow_run.name))
    swapped = find_record(environment, restore_id)
    if swapped is None or swapped.swapped_at is None or swapped.old_name is None:
        raise ConfigurationError(
            "undo a swap", restore_id, "no such swap was made", "Look for swap in: nightshift evidence show"
        )
    live = run.environment.databases[swapped.database].name
    approval = suspend_flow_run(
        wait_for_input=UndoApproval.with_initial_data(
            description=f"Type the live database's name to put **{swapped.old_name}** in its place again, as it was before "
            f"{swapped.swapped_at:%Y-%m-%d %H:%M:%S %Z}. What was written since stays in the other database."
        ),
        key="approve-undo",
        timeout=run.environment.restore.approval_hours * 3600,
    )
    record = Record(swapped.database)
    inputs = {"restore_id": restore_id, "approver": approval.approver, "reason": approval.reason}
    try:
        with record.step("approve"):
            if approval.database_name != live or not approval.approver.strip() or not approval.reason.strip():
                raise ConfigurationError(
                    "approve", live, "another name was typed, or a field is empty", "Start the run again"
                )
        with record.step("swap back") as notes:
            done = swap_back(swapped, live)
            notes.add(facts=swap_facts(done))
        record.finish(
            f"{live} is what it was before the swap; outage {human_duration(done.outage_ms)}; the other: {done.old_name}"
        )
    except NightshiftError:
        write_report(run, [record], inputs)
        return Failed(message=outcome_sentence([record]))
    write_report(run, [record], inputs)
    return Completed(message=outcome_sentence([record]))
