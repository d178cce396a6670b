"""Brings releases that were left in the middle to their end: started when a release's run crashes, by a sweep every two minutes, or by hand. Runbook: docs/rollback.md.

It reads journal and world, decides once (core.release_recovery), takes the dead holder's lease under a higher number, and goes by the same runbook as the release.
"""

from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import Field

from core.environment import Environment
from core.errors import NightshiftError, PermanentError
from core.evidence import Finding
from core.release_recovery import Decision
from flows.nightly_backup import EnvironmentName
from flows.release_runbook import carry_out, go_back
from tasks.recording import Record
from tasks.release_lease import HeldError
from tasks.release_left_open import LeftOpen
from tasks.release_recovery_steps import decide_on, end_closed, left_open, plan_of
from tasks.release_start import begun, first_journal
from tasks.release_upkeep import let_go
from tasks.report_steps import begin_run, end_run

ReleaseId = Annotated[str, Field(pattern=r"^([rb]-[0-9a-f]{12})?$")]
Choice = Literal["", "forward", "back"]


@flow(name="release-recovery", flow_run_name="recover releases of {environment}", persist_result=False)
def release_recovery(
    environment: EnvironmentName, release_id: ReleaseId = "", decision: Choice = "", reason: str = ""
) -> State[None]:
    """Bring releases that were left in the middle to their end: forward where the new version serves already or there is no way back, else back.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        release_id: Only this one, as journal and report call it. Empty: every one that was left open.
        decision: A person's word where recovery holds because it must not decide alone: forward or back. Needs release_id and reason.
        reason: Why. Stands in the report.
    """
    run = begin_run(environment, flow="release-recovery", run_id=str(flow_run.id), run_name=str(flow_run.name))
    found = [one for one in left_open(environment) if release_id in {"", one.release_id}]
    if not found:
        # A sweep that finds nothing writes no report: there are 720 a day.
        return Completed(message=nothing_open(environment, release_id, run.run_id))
    records = []
    for left in found:
        record = Record(left.release_id)
        try:
            recover(run.environment, record, left, run.run_id, Decision(_WHAT[decision], reason) if decision else None)
        except HeldError as error:
            get_run_logger().info("%s", error)
            continue
        except NightshiftError as error:
            get_run_logger().error("%s: %s", left.release_id, error)
        if record.steps:
            records.append(record)
    if not records:
        return Completed(
            message="; ".join(f"{one.release_id}: its run lives, or another recovery is at it" for one in found)
        )
    return end_run(run, records, {"release_id": release_id, "decision": decision, "reason": reason})


def nothing_open(environment: str, release_id: str, run_id: str) -> str:
    """What a sweep does that finds nothing open: the old side of a release that has served long enough need not be kept full any more."""
    if release_id:
        return f"{release_id} is not open; nothing was done"
    try:
        return let_go(environment, run_id) or "no release is open"
    except HeldError:
        return "a release goes on"


def recover(
    environment: Environment, record: Record, left: LeftOpen, run_id: str, chosen: Decision | None = None
) -> None:
    """Bring one release to its end. Raise HeldError when another is at it, PermanentError when a person must decide."""
    decision = decide_on(environment.name, left, run_id, chosen)
    if decision.what == "nothing" and left.journal is not None and not left.journal.is_open:
        end_closed(environment.name, left, run_id)
        return
    if decision.what in {"nothing", "wait"}:
        get_run_logger().info("%s: %s", left.release_id, decision.why)
        return
    with record.step("decide") as notes:
        notes.add(facts={"decision": decision.what, "why": decision.why})
        if left.problem:
            notes.findings.append(
                Finding(
                    severity="warning", text=f"journal: {left.problem}; going by the signed plan and by what is seen"
                )
            )
        if decision.what == "hold":
            raise PermanentError(
                "bring the release to its end",
                left.release_id,
                decision.why,
                f"Decide: nightshift release-recovery {environment.name} {left.release_id} --decision forward|back --reason …",
            )
        plan = plan_of(environment.name, left)
    if plan is None:
        end_closed(environment.name, left, run_id)
        record.finish("it had no plan yet: nothing was changed")
        return
    journal = left.journal or first_journal(plan, left.release_id, run_id)
    with begun(
        environment, plan, record, journal, run_id, instead_of=left.holder, earlier=left.journal is not None
    ) as release_run:
        if decision.what == "finish":
            carry_out(release_run)
            record.finish(f"brought to its end forward: {decision.why}")
        else:
            go_back(release_run, left.journal.why if left.journal and left.journal.why else decision.why)
            record.finish(f"brought back to the old version: {decision.why}")


_WHAT: dict[str, Literal["finish", "go back"]] = {"forward": "finish", "back": "go back"}
