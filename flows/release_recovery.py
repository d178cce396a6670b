"""Brings releases that were left in the middle to their end: started when a release's run crashes, by a sweep every two minutes, or by hand. Runbook: docs/rollback.md.

It reads journal and world, decides once (core.release_recovery), takes the dead holder's lease under a higher number, and goes by the same runbook as the release.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Literal

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed
from pydantic import Field

from core import run_names
from core.environment import Environment
from core.errors import ConfigurationError, NightshiftError
from core.evidence import Finding
from core.release_recovery import Decision
from flows.nightly_backup import EnvironmentName
from flows.release_runbook import End, forward_or_back, go_back, held_sentence, hold
from flows.run_names import named
from tasks.recording import Record, RunRecord
from tasks.release_lease import HeldError
from tasks.release_left_open import LeftOpen
from tasks.release_recovery_steps import decide_on, end_closed, left_open, plan_of
from tasks.release_run import ReleaseRun
from tasks.release_start import begun, first_journal
from tasks.release_upkeep import let_go
from tasks.report_steps import begin_run, end_run, told_before

ReleaseId = Annotated[str, Field(pattern=r"^([rb]-[0-9a-f]{12})?$")]
Choice = Literal["", "forward", "back"]


@flow(name="release-recovery", flow_run_name=named(run_names.release_recovery), persist_result=False)
def release_recovery(
    environment: EnvironmentName, release_id: ReleaseId = "", decision: Choice = "", reason: str = ""
) -> State[None]:
    """Bring releases that were left in the middle to their end: forward where the new version serves already or there is no way back, else back.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        release_id: Only this one, as journal and report call it. Empty: every one that was left open.
        decision: forward or back: a person's word where recovery holds because it must not decide alone; needs release_id and reason. Nothing chosen: it decides.
        reason: Why. Stands in the report.
    """
    run = begin_run(environment, flow="release-recovery", run_id=str(flow_run.id), run_name=str(flow_run.name))
    require_whole_decision(environment, release_id, decision, reason)
    found = [one for one in left_open(environment) if release_id in {"", one.release_id}]
    if not found:
        # A sweep that finds nothing writes no report: there are 720 a day.
        return Completed(message=nothing_open(environment, release_id, run.run_id))
    chosen = Decision(_WHAT[decision], reason) if decision else None
    records, told, made, failed = [], [], [], False
    for left in found:
        record = Record(left.release_id)
        try:
            end = recover(run.environment, record, left, run.run_id, chosen)
        except HeldError as error:
            told.append(f"{left.release_id}: {error}")
            continue
        except NightshiftError as error:
            get_run_logger().error("%s: %s", left.release_id, error)
            told.append(f"{left.release_id}: {error}")
            failed = True
        else:
            told.append(f"{left.release_id}: {end.told}")
            # A sweep has its next turn; who asks for this one must not read that it is done.
            failed |= bool(release_id) and end.how == "waits"
            if end.how in {"released", "rolled back"}:
                record.finish(end.told)
            if record.steps and record.failed:
                made.append(f"{told[-1]}: ")
        if record.steps:
            records.append(record)
    if records:
        inputs = {"release_id": release_id, "decision": decision, "reason": reason}
        return reported(run, records, told, "".join(made), inputs)
    # Nothing was done, and a sweep comes each two minutes: no report.
    message = "; ".join(told)
    return Failed(message=message) if failed else Completed(message=message)


def require_whole_decision(environment: str, release_id: str, decision: Choice, reason: str) -> None:
    """Raise ConfigurationError for a decision that names no release or no reason: a form's fields are filled in one by one, and it would count for every open release."""
    if decision and not (release_id and reason.strip()):
        raise ConfigurationError(
            f"bring a release {decision}",
            environment,
            "a decision needs release_id and reason",
            "Nothing was done; start it again with both",
        )


def reported(
    run: RunRecord, records: list[Record], told: list[str], made: str, inputs: Mapping[str, object]
) -> State[None]:
    """End with a report; without one where a sweep found what the last one told: what keeps a release open may stay for a night, and a sweep comes each two minutes."""
    swept = not inputs["decision"] and all(record.failed for record in records)
    if swept and (number := told_before(run, records)):
        return Failed(message=f"{'; '.join(told)} (as told in report {number}; nothing else was found)")
    return end_run(run, records, inputs, made=made)


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
) -> End:
    """Bring one release to its end, and return which; or that nothing is to be done yet. Raise HeldError when another is at it."""
    decision = decide_on(environment.name, left, run_id, chosen)
    if decision.what == "nothing" and left.journal is not None and not left.journal.is_open:
        end_closed(environment.name, left, run_id)
        return End("nothing", decision.why)
    if decision.what in {"nothing", "wait"}:
        return End("waits", decision.why)
    if decision.what == "hold" and left.journal is not None and left.journal.is_held and left.holder is None:
        # Told when it was held; a sweep has nothing to add.
        return End("held", held_sentence(environment.name, left.release_id, left.journal.why))
    with record.step("decide") as notes:
        notes.add(facts={"decision": decision.what, "why": decision.why})
        if left.problem:
            notes.findings.append(
                Finding(
                    severity="warning", text=f"journal: {left.problem}; going by the signed plan and by what is seen"
                )
            )
        plan = plan_of(environment.name, left)
    if plan is None:
        end_closed(environment.name, left, run_id)
        return End("rolled back", "it had no plan yet: nothing was changed")
    journal = left.journal or first_journal(plan, left.release_id, run_id)
    with begun(
        environment, plan, record, journal, run_id, instead_of=left.holder, earlier=left.journal is not None
    ) as release_run:
        return by_decision(release_run, decision, chosen)


def by_decision(run: ReleaseRun, decision: Decision, chosen: Decision | None) -> End:
    """Do what was decided; a person's word stands in the journal before anything is done by it."""
    if decision == chosen:
        run.note("decided", facts={"what": decision.what, "why": decision.why[:1000]})
    if decision.what == "hold":
        return hold(run, decision.why)
    if decision.what == "finish":
        end = forward_or_back(run, accepted=decision.why if decision == chosen else "")
        return replace(end, told=f"brought to its end forward: {decision.why}") if end.how == "released" else end
    go_back(run, run.journal.journal.why if run.journal.journal.goes_back else decision.why)
    return End("rolled back", f"brought back to the old version: {decision.why}")


_WHAT: dict[str, Literal["finish", "go back"]] = {"forward": "finish", "back": "go back"}
