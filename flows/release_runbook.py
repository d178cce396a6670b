"""The runbook of a release, forward and back. Whoever brings a release to its end goes by it: the release itself, a rollback, and release-recovery.

Each step is journaled and can be repeated: a step that was done is passed over, a step that was begun looks at the world first.
"""

from core.evidence import Finding
from core.release_journal import Outcome
from core.release_plan import Target
from core.release_recovery import BACK
from flows.nightly_backup import back_up_database
from tasks.children import children_of_this_run
from tasks.recording import Notes, Record
from tasks.release_records import keep_closed
from tasks.release_run import Action, Facts, ReleaseRun, perform
from tasks.roll_out import let_go_on, roll, suspend


def carry_out(run: ReleaseRun) -> None:
    """Forward: from wherever it stands to its end. Raise what stops it; then the way back is `go_back`."""
    for target in run.plan.cron_jobs:
        perform(run, f"suspend {target.key}", suspend(target))

    for database in run.plan.backup:
        perform(run, f"back up {database}", back_up(database))

    for target in run.plan.deployments("api"):
        perform(run, forward_step(target), roll(target, forward=True))

    for target in run.plan.deployments("worker"):
        perform(run, forward_step(target), roll(target, forward=True))

    for target in run.plan.cron_jobs:
        perform(run, forward_step(target), let_go_on(target, forward=True))

    close(run, "released")


def go_back(run: ReleaseRun, why: str) -> None:
    """Back to what the release found: traffic first, then Pods, then CronJobs; the database by a person's decision only."""
    if not run.journal.journal.goes_back:
        run.note("compensate", facts={"why": why[:1000]})

    for target in (*run.plan.deployments("api"), *run.plan.deployments("worker")):
        perform(run, target.key + BACK, roll(target, forward=False))

    for target in run.plan.cron_jobs:
        perform(run, target.key + BACK, let_go_on(target, forward=False))

    close(run, "rolled back")


def close(run: ReleaseRun, outcome: Outcome) -> None:
    """Write the end into the journal and the bucket, and let others have the lease."""
    with run.record.step("close the journal") as notes, run.client() as client:
        if run.journal.journal.is_open:
            run.journal.close(client, outcome)
        keep_closed(run.environment, run.journal.journal, outcome)
        notes.add(facts={"outcome": outcome, "entries": len(run.journal.journal.entries)})
    run.give_back()


def forward_step(target: Target) -> str:
    """The name of the step that brings a workload to the new version."""
    return f"roll out {target.key}" if target.kind == "Deployment" else f"update {target.key}"


def back_up(database: str) -> Action:
    """A backup of the database by the nightly backup's own steps, at least decoded, before anything is migrated."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        record = Record(database)
        with children_of_this_run():
            back_up_database(run.environment.name, record, "skip")
        notes.add(facts={"backup": record.summary})
        notes.findings += [
            Finding(severity=found.severity, text=found.text) for one in record.steps for found in one.findings
        ]
        return {"backup": record.summary.split(",")[0]}

    return action
