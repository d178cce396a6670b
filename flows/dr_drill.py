"""The disaster-recovery drill: restore a backup on a scratch server, prove that it is the data, prove that damage would have been seen. Runbook: docs/drill.md.

Everything that is made for it is removed at its end, whatever happened; what a killed drill left, the next one sweeps.
"""

from contextlib import ExitStack, nullcontext
from typing import Annotated, Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from pydantic import Field

from core import run_names
from core.drill_trend import FACTS, DrillPoint
from core.drill_verdict import Outcome, judge_drill
from core.errors import NightshiftError
from core.evidence import Finding
from core.restore_facts import control_rows, restored_facts
from core.section import NAME_PATTERN
from core.units import human_bytes, human_duration
from flows.run_names import named
from tasks.backup_steps import choose_databases
from tasks.children import children_of_this_run
from tasks.damage import damage_marked, mark_taken_away, tell_damage
from tasks.drill_steps import (
    Drill,
    ask_invariants,
    choose_backup_to_drill,
    compare,
    mark_proven,
    proven_record,
    restore_into,
    show_trend,
    start_scratch,
    sweep,
    try_controls,
)
from tasks.recording import Record, RunRecord
from tasks.report_steps import begin_run, end_run

EnvironmentName = Annotated[str, Field(pattern=NAME_PATTERN)]


@flow(name="dr-drill", flow_run_name=named(run_names.dr_drill), persist_result=False)
def dr_drill(
    environment: EnvironmentName,
    databases: list[str] = [],  # noqa: B006 - never changed, and the form in the UI shows it
    backup: str = "",
    read_from_copy: bool = False,
) -> State[None]:
    """Rehearse a recovery: restore the newest unproven backup of each database on a scratch server, and prove that it is what was backed up.

    Args:
        environment: Which environment: the name of its file in deployments/environments/, without .toml.
        databases: Only these databases, by their names in the environment's file. Empty: all.
        backup: A backup's id, newest-proven, newest-decoded, or before:TIME. Empty: the newest decoded one that no drill has proven, else the newest.
        read_from_copy: Read the bucket's copy in another region ([copy_store]) instead of the bucket.
    """
    run = begin_run(environment, flow="dr-drill", run_id=str(flow_run.id), run_name=str(flow_run.name))
    records = [Record(name) for name in choose_databases(run.environment, databases)]
    points: list[DrillPoint] = []

    with children_of_this_run():
        for swept in sweep(environment):
            get_run_logger().warning("removed what a killed drill left: %s", swept)
        # One after the other: each takes the machine's disk and processors, and recovery times are told of one restore alone.
        for record in records:
            drill_database(run, record, points, backup, from_copy=read_from_copy)

    show_trend(environment, tuple(points))
    inputs = {"databases": [record.name for record in records], "backup": backup, "read_from_copy": read_from_copy}
    return end_run(run, records, inputs)


@task(task_run_name="drill {record.name}", cache_policy=NO_CACHE, persist_result=False)
def drill_database(run: RunRecord, record: Record, points: list[DrillPoint], wanted: str, *, from_copy: bool) -> None:
    """One database. An error that we know is in the record; the others go on."""
    try:
        with ExitStack() as stack:
            drill_one(stack, run, record, points, wanted, from_copy=from_copy)
    except NightshiftError as error:
        get_run_logger().error("%s: %s", record.name, error)


def drill_one(
    stack: ExitStack, run: RunRecord, record: Record, points: list[DrillPoint], wanted: str, *, from_copy: bool
) -> None:
    """Choose, restore, compare, damage, judge. What was entered is left with the stack."""
    with record.step("choose the backup") as notes:
        chosen, manifest = choose_backup_to_drill(run.environment.name, record.name, wanted, from_copy=from_copy)
        notes.add(facts={"backup_id": chosen.backup_id, "state": chosen.shown_state}, findings=chosen.findings)
    drill = Drill(run.environment.name, record.name, manifest, chosen.manifest_sha256, run.run_id, from_copy)

    with record.step("start the scratch server") as notes:
        scratch = start_scratch(stack, drill)
        notes.add(
            facts=scratch_facts(scratch), findings=[Finding(severity="note", text=text) for text in scratch.notes]
        )
    # What is read from the copy says nothing of the bucket, for the worse or the better.
    marking = nullcontext() if from_copy else damage_marked(record, run.environment.name, record.name, chosen.backup_id, flow="dr-drill", run_id=run.run_id)  # fmt: skip
    with marking, record.step("restore"):
        copy = restore_into(stack, drill, scratch)
    with record.step("compare"):
        restored, verification = compare(drill, copy)
    with record.step("invariants") as notes:
        invariants = ask_invariants(drill, copy)
        notes.add(facts={"asked": len(invariants)})
    with record.step("negative controls") as notes:
        controls = try_controls(drill, copy, restored)
        notes.add(facts={"controls": control_rows(controls)})

    with record.step("judge") as notes:
        verdict = judge_drill(
            restored,
            verification,
            invariants,
            controls,
            restore_minutes=run.environment.objectives.restore_minutes,
            indicative=scratch.indicative,
        )
        point = drill_point(
            run,
            record.name,
            drill,
            restored,
            indicative=scratch.indicative,
            outcome=verdict.outcome,
        )
        points.append(point)
        notes.add(
            facts={**restored_facts(restored, manifest, verification), FACTS: point_facts(point)},
            findings=verdict.findings,
        )
    if verification.damage and not from_copy:
        found = "; ".join(verification.damage)
        tell_damage(
            record, run.environment.name, record.name, chosen.backup_id, found, flow="dr-drill", run_id=run.run_id
        )
    if not verdict.proven:
        return
    # What was read from the copy proves the copy: the environment's own bucket may be damaged all the same.
    if not from_copy:
        with record.step("mark proven") as notes:
            mark_proven(
                run.environment.name, record.name, proven_record(drill, scratch, restored, verification, controls)
            )
            notes.add(
                facts={}, findings=mark_taken_away(run.environment.name, record.name, chosen.backup_id, run.run_id)
            )
    took = human_duration(restored.ms)
    state = "whole in the copy of the bucket (which does not prove the bucket itself)" if from_copy else "proven"
    if verification.compared.short:
        state = f"{state}, {verification.compared.short}"
    record.finish(
        f"{manifest.backup_id} is {state}; {human_bytes(manifest.plain_bytes)} restored and verified in {took}"
    )


def scratch_facts(scratch: Any) -> dict[str, Any]:
    """What the report says of the scratch server."""
    return {
        "kind": scratch.kind,
        "recovery_time_is_indicative": scratch.indicative,
        "isolation": list(scratch.isolation),
        "settings": dict(scratch.settings),
    }


def drill_point(
    run: RunRecord, database: str, drill: Drill, restored: Any, *, indicative: bool, outcome: Outcome
) -> DrillPoint:
    """This drill as a point of the trend."""
    return DrillPoint(
        time=run.started,
        database=database,
        backup_id=drill.manifest.backup_id,
        server=f"{restored.server}, PostgreSQL {restored.server_version}",
        phases={phase.name: phase.ms for phase in restored.phases},
        plain_bytes=drill.manifest.plain_bytes,
        outcome=outcome,
        indicative=indicative,
    )


def point_facts(point: DrillPoint) -> dict[str, Any]:
    """The point as the report's facts hold it: without what the report itself says."""
    return point.model_dump(mode="json", exclude={"time", "database"})
