"""The runbook of a release, forward, back, or held. Whoever brings a release to its end goes by it: the release itself, a rollback, and release-recovery.

Each step is journaled and can be repeated: a step that was done is passed over, a step that was begun looks at the world first.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from prefect import get_run_logger

from core import frontend
from core.errors import NightshiftError, PermanentError
from core.evidence import Finding
from core.fence import FencedError
from core.frontend import FrontendPlan
from core.release_journal import Outcome
from core.release_plan import ReleasePlan, SidesPlan, Target
from core.release_recovery import BACK, BAR, MIGRATE, ask_for_decision, shift_step
from core.rollout_change import ForeignChangeError
from flows.nightly_backup import back_up_database
from tasks.children import children_of_this_run
from tasks.frontend import frontend_of
from tasks.frontend_steps import (
    ask_frontend,
    frontend_back,
    frontend_back_at_once,
    invalidate_frontend,
    note_frontend,
    promote_frontend,
    takes_front_end_back,
)
from tasks.kept_size import keep_sizes
from tasks.migrate import migrate
from tasks.migration_barrier import bar_migration
from tasks.recording import Notes, Record
from tasks.release_records import keep_closed
from tasks.release_recovery_steps import decide_after_failure
from tasks.release_run import Action, Facts, ReleaseRun, perform
from tasks.release_upkeep import forget_old_journals
from tasks.roll_out import ask_pods, copy_configuration, let_go_on, roll, suspend
from tasks.rollback_steps import restore_old_side
from tasks.shift_steps import ask_side, fill_side, prepare_side, retire_following, retire_others, shift_to, traffic_back
from tasks.watch_start import hand_over, taken_back


@dataclass(frozen=True)
class End:
    """How a release ended, or was left, and that in words."""

    how: Literal["released", "rolled back", "held", "waits", "nothing"]
    told: str


def forward_or_back(run: ReleaseRun, accepted: str = "") -> End:
    """Carry the plan out; when anything stops it, do what one decision says (core.release_recovery), and return how it ended. Whoever lost the lease does neither.

    accepted: why a person goes forward though a migration did not come to a good end.
    """
    try:
        carry_out(run, accepted)
    except FencedError:
        raise
    except NightshiftError as error:
        with run.record.step("decide") as notes:
            decision = decide_after_failure(run)
            notes.add(facts={"decision": decision.what, "why": decision.why})
        if decision.what == "wait":
            return End("waits", f"{decision.why}; release-recovery goes on when it has ended")
        if decision.what == "hold":
            return hold(run, decision.why, f"; {error}")
        return go_back(run, str(error))
    front = f", and front end {run.plan.frontend.deployment}" if run.plan.frontend is not None else ""
    return End("released", f"{run.plan.image} is live (commit {run.plan.commit[:12]}){front}")


def carry_out(run: ReleaseRun, accepted: str = "") -> None:
    """Forward: from wherever it stands to its end. Raise what stops it."""
    for target in run.plan.cron_jobs:
        perform(run, f"suspend {target.key}", suspend(target))

    for database in run.plan.backup:
        perform(run, f"back up {database}", back_up(database))

    migrate(run, accepted)

    if run.plan.config_copies:
        perform(run, "copy the configuration", copy_configuration)

    if run.plan.sides is not None:
        shift(run, run.plan.sides)
    else:
        for target in run.plan.deployments("api"):
            perform(run, forward_step(target), roll(target, forward=True))
            perform(run, f"ask the Pods of {target.key}", ask_pods(target))

    for target in run.plan.deployments("worker"):
        perform(run, forward_step(target), roll(target, forward=True))

    for target in run.plan.cron_jobs:
        perform(run, forward_step(target), let_go_on(target, forward=True))

    if run.plan.frontend is not None:
        bring_front_end(run, run.plan.frontend)

    perform(run, "see that nobody changed the sizes", keep_sizes(sized_by(run.plan)))
    close(run, "released")


def bring_front_end(run: ReleaseRun, plan: FrontendPlan) -> None:
    """The front end comes last: the new one may need the new backend, the old one works with both."""
    perform(run, frontend.NOTE, note_frontend)
    perform(run, frontend.PROMOTE, promote_frontend)
    if frontend_of(run.release).distribution and not plan.is_live:
        perform(run, frontend.INVALIDATE, invalidate_frontend)
    perform(run, frontend.ASK, ask_frontend)


def shift(run: ReleaseRun, sides: SidesPlan) -> None:
    """Blue-green: make the following side, see that it is well, and give it the traffic share by share."""
    perform(run, "retire an older side", retire_others)
    perform(run, f"prepare {sides.following_name}", prepare_side)
    perform(run, f"fill {sides.following_name}", fill_side)
    perform(run, f"ask the Pods of {sides.following_name}", ask_side)
    for before, share in pairwise((0, *sides.shares)):
        perform(run, shift_step(share), shift_to(share, before))


def go_back(run: ReleaseRun, why: str) -> End:
    """Back to what the release found: traffic first, then Pods, then CronJobs; the database by a person's decision only.

    What somebody else changed meanwhile is left as it is; all else goes back, and then that is raised: the release stays open until a person has put it right.
    """
    journal = run.journal.journal
    if not journal.goes_back and not journal.is_done(MIGRATE) and run.plan.migration is not None:
        # Before it is written that it goes back: where its Job comes about after all, it is decided anew.
        perform(run, BAR, bar_migration)

    if not run.journal.journal.goes_back:
        run.note("compensate", facts={"why": why[:1000]})

    if takes_front_end_back(run):
        # First, since a new front end must not meet the old backend; where Vercel is away nothing waits for it.
        perform(run, frontend.BACK_AT_ONCE, frontend_back_at_once)

    if run.plan.sides is not None:
        if run.journal.journal.kind == "rollback":
            perform(run, f"bring {run.plan.sides.live_name} back to its version", restore_old_side)
        perform(run, "traffic" + BACK, traffic_back)

    theirs = workloads_back(run)

    if run.plan.sides is not None:
        perform(run, f"retire {run.plan.sides.following_name}", retire_following)

    front_end_back(run)

    for error in theirs:
        raise error

    close(run, "rolled back")
    return End("rolled back", f"{run.plan.image} was rolled back")


def workloads_back(run: ReleaseRun) -> list[ForeignChangeError]:
    """What is changed in place goes back, and what somebody else made of one is returned. The api of a blue-green release needs nothing: its traffic went back."""
    theirs: list[ForeignChangeError] = []
    for target in run.plan.deployments("api") if run.plan.sides is None else ():
        theirs += unless_theirs(run, target.key + BACK, roll(target, forward=False))

    for target in run.plan.deployments("worker"):
        theirs += unless_theirs(run, target.key + BACK, roll(target, forward=False))

    for target in run.plan.cron_jobs:
        theirs += unless_theirs(run, target.key + BACK, let_go_on(target, forward=False))
    return theirs


def front_end_back(run: ReleaseRun) -> None:
    """Where it was promoted, or may have been. What keeps it from going back is raised once all else is back."""
    if takes_front_end_back(run):
        perform(run, frontend.BACK, frontend_back)
        if frontend_of(run.release).distribution:
            perform(run, frontend.INVALIDATE_BACK, invalidate_frontend)


def hold(run: ReleaseRun, why: str, cause: str = "") -> End:
    """Leave everything as it is until a person decides. The journal stays open, so that no other release begins; the lease is free for who carries the decision out."""
    noted = f"{why}{cause}"[:1000]
    if not run.journal.journal.is_held or run.journal.journal.why != noted:
        run.note("held", facts={"why": noted})
    run.give_back()
    return End("held", held_sentence(run.environment.name, run.plan.release_id, why))


def unless_theirs(run: ReleaseRun, name: str, action: Action) -> list[ForeignChangeError]:
    """Do a step of the way back, and return what keeps it from being done, if that is somebody else's change."""
    try:
        perform(run, name, action)
    except ForeignChangeError as error:
        return [error]
    return []


def close(run: ReleaseRun, outcome: Outcome) -> None:
    """Write the end into the journal, let others have the lease, and keep the end in the bucket.

    Once the journal is closed nothing takes that back, a bucket that is away least of all: what it lacks, the next sweep writes.
    """
    with run.record.step("close the journal") as notes, run.client() as client:
        if run.journal.journal.is_open:
            run.journal.close(client, outcome)
        forget_old_journals(client, run.environment)
        run.give_back()
        notes.add(facts={"outcome": outcome, "entries": len(run.journal.journal.entries)})
        get_run_logger().info(
            "%s: %s, and the lease is free; waiting for the bucket to keep its end and the report",
            run.plan.release_id,
            outcome,
        )
        try:
            keep_closed(run.environment, run.journal.journal, outcome)
        except NightshiftError as error:
            told = f"its end could not be kept in the bucket; the next sweep (release-recovery) does it: {error}"
            notes.findings.append(Finding(severity="warning", text=told))
    with run.record.step("hand over to the watch") as notes:
        journal = run.journal.journal
        if outcome == "released":
            hand_over(run.environment, run.plan, journal.entries[-1].at, notes)
        elif journal.kind == "rollback":
            taken_back(run.environment, run.plan.release_id, journal.release_id, notes)


def held_sentence(environment: str, release_id: str, why: str) -> str:
    """What is said of a release that is held, each time: how it stands, what is asked of whom, and why."""
    left = "traffic and Pods were left as they are, and CronJobs that it suspended stay so"
    return f"HELD, it is neither out nor back: {left}. {ask_for_decision(environment, release_id)} Why: {why}"


def sized_by(plan: ReleasePlan) -> dict[str, str]:
    """Deployment → the step that noted its size last."""
    rolled = {one.name: forward_step(one) for one in plan.targets if one.kind == "Deployment"}
    if plan.sides is None:
        return rolled
    workers = {one.name: rolled[one.name] for one in plan.deployments("worker")}
    return {plan.sides.following_name: shift_step(plan.sides.shares[-1]), **workers}


def forward_step(target: Target) -> str:
    """The name of the step that brings a workload to the new version."""
    return f"roll out {target.key}" if target.kind == "Deployment" else f"update {target.key}"


def back_up(database: str) -> Action:
    """A backup of the database by the nightly backup's own steps, decoded and with nothing missing, before anything is migrated."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        record = Record(database)
        with children_of_this_run():
            back_up_database(run.environment.name, record, "skip")
        notes.add(facts={"backup": record.summary})
        notes.findings += [
            Finding(severity=found.severity, text=found.text) for one in record.steps for found in one.findings
        ]
        if record.failed:
            # It came to its end, and its dump lacks something: nothing is migrated on it.
            raise PermanentError(
                "back up before the migration",
                f"{run.environment.name}/{database}",
                record.why,
                "Find out why, then release again",
            )
        return {"backup": record.summary.split(",")[0]}

    return action
