"""The way back from a swap: the database that served before gets its name again. Runbook: docs/restore.md."""

from typing import Annotated

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from core import run_names
from core.approval_text import undo_text
from core.errors import ConfigurationError, NightshiftError
from core.section import NAME_PATTERN
from core.units import human_duration
from flows.approval import ask_for_approval
from flows.run_names import named
from flows.unfinished_swap import open_what_was_left
from tasks.recording import Record, utc_now
from tasks.report_steps import begin_run, end_run, write_report
from tasks.restore_records import find_record
from tasks.swap_steps import swap_facts
from tasks.undo_steps import check_swap_back, swap_back

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]


@flow(name="undo-swap", flow_run_name=named(run_names.undo_swap), persist_result=False)
def undo_swap(environment: EnvironmentName, restore_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]) -> State[None]:
    """Give the name back to the database that served before a swap. What was written since to the swapped-in one stays in it, under another name.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        restore_id: The restore's id, eight hexadecimal digits, as the swap's report and the old database's name tell it.
    """
    run = begin_run(environment, flow="undo-swap", run_id=str(flow_run.id), run_name=str(flow_run.name))
    found = find_record(environment, restore_id)
    if found is None:
        raise ConfigurationError(
            "undo a swap",
            restore_id,
            "there is no such restore",
            f"Look for swap in: nightshift evidence show {environment}",
        )
    live = run.environment.databases[found.database].name
    asked, record = Record(found.database), Record(found.database)
    inputs: dict[str, object] = {"restore_id": restore_id}
    try:
        with asked.step("approve") as notes:
            open_what_was_left(run, found, live, inputs)
            plan = check_swap_back(found, live)
            text = undo_text(plan, found.restored.server, found.swapped_at if found.old_oid else None, utc_now())
            approval = ask_for_approval(
                "approve-undo", text, live, plan.identities, hours=run.environment.restore.approval_hours
            )
            notes.add(facts={"approver": approval.approver, "reason": approval.reason, "typed": approval.database_name})
        asked.finish(f"approved by {approval.approver}")
        # Who approved what stands in the evidence before anything is changed.
        write_report(run, [asked], inputs)
        with record.step("swap back") as notes:
            done = swap_back(found.model_copy(update={"old_name": plan.copy_name}), live)
            notes.add(facts=swap_facts(done))
        record.finish(
            f"{live} is what it was before the swap; outage {human_duration(done.outage_ms)}; the other: {done.old_name}"
        )
    except NightshiftError:
        return end_run(run, [asked, record], inputs, told=[asked if asked.failed else record])
    return end_run(run, [asked, record], inputs, told=[record])
