"""The migration's steps of a release: for each attempt the state before, the Job, its end and the judgement."""

from __future__ import annotations

import random
import time

from prefect import get_run_logger

from core.errors import NightshiftError, PermanentError
from core.evidence import Finding
from core.fence import check_stamp
from core.migration_attempts import AttemptPlan, first_attempt, next_attempt
from core.migration_end import JobEnd
from core.migration_outcome import Judgement, MigrationState
from core.migration_window import may_start
from core.release_checks import MIGRATION_ITEM
from core.release_recovery import MIGRATE, judged_step, made_step
from tasks.migration_before import keep_before, read_before
from tasks.migration_job import look_at_job, require_no_traffic, start_job
from tasks.migration_state import release_stuck_lock
from tasks.migration_steps import judge_end, migration_document, migration_settings, wait_and_judge
from tasks.object_store import ObjectMissingError
from tasks.recording import Notes, utc_now
from tasks.release_run import Action, Facts, ReleaseRun, perform
from tasks.release_world import anchor_path

_NAMES_AT_MOST = 900


class MigrationFailedError(PermanentError):
    """A migration that did not come to a good end. `facts`: what the journal keeps of it, its outcome (core.migration_outcome) above all."""

    facts: Facts


def migrate(run: ReleaseRun, accepted: str = "") -> None:
    """Attempt by attempt, until nothing is pending; every one after the first only after a clean end, or for what is still pending. Raise MigrationFailedError.

    accepted: why a person takes the database as it now is, though an attempt ended partial or unknown: it was looked at, and completed by hand.
    """
    if run.plan.migration is None or run.journal.journal.is_done(MIGRATE):
        return
    settings, _database, _namespace = migration_settings(run.environment)
    attempt: AttemptPlan | None = first_attempt(settings)
    while attempt is not None:
        perform(run, made_step(attempt.attempt), make_job(attempt, accepted))
        perform(run, judged_step(attempt.attempt), await_job(attempt, accepted))
        facts = run.journal.journal.facts_of(judged_step(attempt.attempt))
        again = Judgement.model_validate(
            {"outcome": facts["outcome"], "sentence": "", "next_step": "", "again": facts["again"]}
        )
        attempt = next_attempt(attempt, again, settings, random.random())  # noqa: S311 - a pause
        if attempt is None and again.again:
            # Its step was done since another was to follow; the file allows fewer by now.
            found = again.model_copy(update={"sentence": "the settings allow no attempt after this one"})
            raise _failure(run.plan.migration.database, found, facts)
    perform(run, MIGRATE, _sum_up)


def make_job(attempt: AttemptPlan, accepted: str = "") -> Action:
    """Keep the state before, then make the attempt's Job, when it still fits into the window."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        settings, _database, _namespace = migration_settings(run.environment)
        assert run.plan.migration is not None  # noqa: S101 - asked before
        time.sleep(attempt.pause_ms / 1000)
        document = migration_document(
            run.environment, run.plan.release_id, attempt, run.plan.migration.image, run.plan.migration.command
        )
        with run.client() as client:
            look = look_at_job(client, run.release.namespace, run.plan.release_id, attempt.attempt)
            if look.state == "never created":
                if run.journal.journal.intents(made_step(attempt.attempt)) > 1:
                    try:
                        require_unchanged(run, attempt.attempt)
                    except MigrationFailedError as error:
                        if not accepted:
                            raise
                        # It is not made a second time; the next step takes the database as it is.
                        notes.findings.append(Finding(severity="warning", text=error.found))
                        return {"job": "not made again"}
                answer = may_start(settings, run.environment.zone, utc_now())
                if not answer.may_start:
                    raise PermanentError(
                        "migrate", run.plan.migration.database, answer.sentence, "Release again when the window is open"
                    )
                if MIGRATION_ITEM not in run.plan.waived:
                    require_no_traffic(client, run.release.namespace, document)
                keep_before(run.environment, run.plan.release_id, attempt.attempt)
            run.still_ours()
            anchor = anchor_path(client, run.release, run.plan)
            check_stamp(client.get(anchor), run.fence, on=anchor)
            job = start_job(client, run.release.namespace, document)
        facts: Facts = {
            "job": job["metadata"]["name"],
            "image": run.plan.migration.image,
            "lock_timeout_ms": attempt.lock_timeout_ms,
        }
        notes.add(facts=facts)
        return facts

    return action


def await_job(attempt: AttemptPlan, accepted: str = "") -> Action:
    """Wait for an attempt's Job, show its log, and judge by table and catalogue what came of it. A Job is never interrupted here."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        logger = get_run_logger()
        settings, _database, _namespace = migration_settings(run.environment)
        assert run.plan.migration is not None  # noqa: S101 - asked before
        before = read_before(run.environment, run.plan.release_id, attempt.attempt)
        document = migration_document(
            run.environment, run.plan.release_id, attempt, run.plan.migration.image, run.plan.migration.command
        )
        with run.client() as client:
            end, after, judgement = wait_and_judge(
                client,
                run.environment,
                document,
                before,
                on_line=lambda line: logger.info("migration: %s", line),
                still_ours=run.still_ours,
            )
        facts = _facts(judgement)
        table = {"before": len(before.names), "after": len(after.names), "invalid_indexes": list(after.invalid_indexes)}
        notes.add(facts={**facts, **table})
        notes.add_checks(judgement.findings)
        if judgement.good or next_attempt(attempt, judgement, settings, 0.0) is not None:
            logger.info("%s", judgement.sentence)
            return facts
        if accepted and judgement.outcome in {"partial", "unknown"} and not after.sessions:
            # Errors above are those of the attempt; the person knows them.
            notes.findings[:] = [
                Finding(severity="warning", text=f"{judgement.sentence}; taken as complete: {accepted}"),
                *(Finding(severity="warning", text=one.text) for one in notes.findings),
            ]
            return facts | {"accepted": accepted[:300], "applied": max(1, len(judgement.applied))}
        if judgement.outcome in {"clean", "partial"}:
            _take_lock_back(run, before, end, notes)
        raise _failure(run.plan.migration.database, judgement, facts)

    return action


def require_unchanged(run: ReleaseRun, attempt: int) -> None:
    """Before a Job is made whose making was begun once before: it may have been made then, have run, and have been removed.

    Raise MigrationFailedError when the database tells so.
    """
    assert run.plan.migration is not None  # noqa: S101 - asked before
    try:
        before = read_before(run.environment, run.plan.release_id, attempt)
    except ObjectMissingError:
        # The state is kept before the Job is made: it was not.
        return
    _after, judgement = judge_end(run.environment, before, JobEnd(state="never created"))
    if judgement.outcome != "clean":
        raise _failure(run.plan.migration.database, judgement, _facts(judgement))


def _sum_up(run: ReleaseRun, notes: Notes) -> Facts:
    """All attempts together, for whoever asks later what this release did to the schema."""
    journal, number, names, applied = run.journal.journal, 1, list[str](), 0
    while facts := journal.facts_of(judged_step(number)):
        applied += int(facts.get("applied", 0))
        names += [str(facts["migrations"])] if facts.get("migrations") else []
        number += 1
    found: Facts = {"applied": applied, "migrations": ", ".join(names)[:_NAMES_AT_MOST], "attempts": number - 1}
    notes.add(facts=found)
    return found


def _facts(judgement: Judgement) -> Facts:
    return {
        "outcome": judgement.outcome,
        "again": judgement.again,
        "applied": len(judgement.applied),
        "migrations": _listed(judgement.applied),
    }


def _failure(database: str, judgement: Judgement, facts: Facts) -> MigrationFailedError:
    problems = [one.found for one in judgement.findings if one.state == "failed"]
    told = f"{judgement.outcome}: {'; '.join([judgement.sentence + _BOUND[judgement.again], *problems])}"
    error = MigrationFailedError("migrate", database, told, judgement.next_step or _STILL_PENDING)
    error.facts = facts
    return error


_BOUND = {
    "": "",
    "pending": "; it was run as often as release.migration.runs allows",
    "lock-timeout": "; it was tried as often as release.migration.lock_attempts allows",
}
_STILL_PENDING = "Look at the Job's log and at what is pending, then release again"


def _take_lock_back(run: ReleaseRun, before: MigrationState, end: JobEnd, notes: Notes) -> None:
    """What a migrator left set of its own lock. That it cannot be taken back is told beside what the migration failed for, not in its place."""
    settings, database, _namespace = migration_settings(run.environment)
    try:
        taken = release_stuck_lock(database, settings, before, addresses=end.addresses)
    except NightshiftError as error:
        notes.findings.append(Finding(severity="warning", text=str(error)))
        return
    if taken:
        told = f"{settings.lock_table} was left set by it, and was taken back: no session of it lives"
        notes.findings.append(Finding(severity="warning", text=told))


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)[:_NAMES_AT_MOST]
