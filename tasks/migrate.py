"""The migration's steps of a release: for each attempt the state before, the Job, its end and the judgement; and what recovery must know of all this."""

from __future__ import annotations

import random
import time
from typing import Literal

from prefect import get_run_logger

from core.environment import Environment
from core.errors import IntegrityError, PermanentError
from core.evidence import Finding
from core.fence import check_stamp
from core.keys import release_folder
from core.manifest import Record
from core.migration_attempts import AttemptPlan, first_attempt, next_attempt
from core.migration_outcome import Judgement, MigrationState
from core.migration_window import may_start
from core.release_journal import Journal
from core.release_plan import ReleasePlan
from core.release_recovery import MIGRATE
from tasks.kubernetes_client import KubernetesClient
from tasks.migration_job import look_at_job, start_job
from tasks.migration_state import release_stuck_lock
from tasks.migration_steps import judge_end, migration_document, migration_settings, state_before, wait_and_judge
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.recording import Notes, utc_now
from tasks.release_run import Action, Facts, ReleaseRun, perform
from tasks.release_world import anchor_path
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys

Applied = Literal["", "yes", "no", "partly", "unknown"]
_NAMES_AT_MOST = 900


class BeforeAttempt(Record):
    """The database's state before an attempt, as kept in the bucket: what the attempt is judged by, whoever is alive then."""

    format: Literal["nightshift-before-migration/1"] = "nightshift-before-migration/1"
    release_id: str
    attempt: int
    state: MigrationState


class MigrationFailedError(PermanentError):
    """A migration that did not come to a good end. `outcome`: clean, partial or unknown (core.migration_outcome); `facts`: for the journal."""

    outcome = ""

    @property
    def facts(self) -> Facts:
        """What the journal keeps of it."""
        return {"outcome": self.outcome}


def migrate(run: ReleaseRun) -> None:
    """Attempt by attempt, until nothing is pending; every one after the first only after a clean end, or for what is still pending. Raise MigrationFailedError."""
    if run.plan.migration is None or run.journal.journal.is_done(MIGRATE):
        return
    settings, _database, _namespace = migration_settings(run.environment)
    attempt: AttemptPlan | None = first_attempt(settings)
    while attempt is not None:
        perform(run, made_step(attempt.attempt), make_job(attempt))
        perform(run, judged_step(attempt.attempt), await_job(attempt))
        facts = run.journal.journal.facts_of(judged_step(attempt.attempt))
        again = Judgement.model_validate(
            {"outcome": facts["outcome"], "sentence": "", "next_step": "", "again": facts["again"]}
        )
        attempt = next_attempt(attempt, again, settings, random.random())  # noqa: S311 - a pause
    perform(run, MIGRATE, _sum_up)


def made_step(attempt: int) -> str:
    """The name of the step after which an attempt's Job is known to have been made: it is never made again."""
    return f"start the migration, attempt {attempt}"


def judged_step(attempt: int) -> str:
    """The name of the step in which an attempt is waited for and judged."""
    return f"judge the migration, attempt {attempt}"


def make_job(attempt: AttemptPlan) -> Action:
    """Keep the state before, then make the attempt's Job, when it still fits into the window."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        settings, _database, _namespace = migration_settings(run.environment)
        assert run.plan.migration is not None  # noqa: S101 - asked before
        time.sleep(attempt.pause_ms / 1000)
        document = migration_document(
            run.environment, run.plan.release_id, attempt, run.plan.migration.image, run.plan.migration.command
        )
        with run.client() as client:
            if (
                look_at_job(client, run.release.namespace, run.plan.release_id, attempt.attempt).state
                == "never created"
            ):
                answer = may_start(settings, run.environment.zone, utc_now())
                if not answer.may_start:
                    raise PermanentError(
                        "migrate", run.plan.migration.database, answer.sentence, "Release again when the window is open"
                    )
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


def await_job(attempt: AttemptPlan) -> Action:
    """Wait for an attempt's Job, show its log, and judge by table and catalogue what came of it. A Job is never interrupted here."""

    def action(run: ReleaseRun, notes: Notes) -> Facts:
        logger = get_run_logger()
        settings, database, _namespace = migration_settings(run.environment)
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
        facts: Facts = {
            "outcome": judgement.outcome,
            "again": judgement.again,
            "applied": len(judgement.applied),
            "migrations": _listed(judgement.applied),
        }
        notes.add(
            facts={
                **facts,
                "before": len(before.names),
                "after": len(after.names),
                "invalid_indexes": list(after.invalid_indexes),
            }
        )
        notes.add_checks(judgement.findings)
        if judgement.good or judgement.again:
            logger.info("%s", judgement.sentence)
            return facts
        if judgement.outcome in {"clean", "partial"} and release_stuck_lock(
            database, settings, before, addresses=end.addresses
        ):
            notes.findings.append(
                Finding(
                    severity="warning",
                    text=f"{settings.lock_table} was left set by it, and was taken back: no session of it lives",
                )
            )
        problems = [one.found for one in judgement.findings if one.state == "failed"]
        error = MigrationFailedError(
            "migrate", run.plan.migration.database, "; ".join([judgement.sentence, *problems]), judgement.next_step
        )
        error.outcome = judgement.outcome
        raise error

    return action


def keep_before(environment: Environment, release_id: str, attempt: int) -> None:
    """Keep the state before an attempt, once: a second time, what was kept first counts. Only called while the Job was never made."""
    kept = BeforeAttempt(release_id=release_id, attempt=attempt, state=state_before(environment))
    ObjectStore.open(environment).put(
        _key(environment, release_id, attempt), sealed_bytes(kept, signing_keys(environment)[0])
    )


def read_before(environment: Environment, release_id: str, attempt: int) -> MigrationState:
    """The state before an attempt. Raise ObjectMissingError when none was kept, IntegrityError when it is forged."""
    store, key = ObjectStore.open(environment), _key(environment, release_id, attempt)
    on = f"s3://{store.bucket}/{key}"
    document = open_sealed(store.get(key), signing_keys(environment), what="the state before the migration", on=on)
    kept = read_record(document, BeforeAttempt, what="the state before the migration", on=on)
    if (kept.release_id, kept.attempt) != (release_id, attempt):
        raise IntegrityError("read the state before the migration", on, "it is another attempt's")
    return kept.state


def migration_stands(  # noqa: PLR0911 - one a case
    client: KubernetesClient, environment: Environment, plan: ReleasePlan, journal: Journal | None
) -> tuple[bool, Applied]:
    """For recovery: whether a Job of the release's migration runs, and whether the database is migrated. Looks at the Jobs and the database, not at the journal alone."""
    if plan.migration is None:
        return False, ""
    settings, _database, namespace = migration_settings(environment)
    if journal is not None and journal.is_done(MIGRATE):
        return False, "yes" if journal.facts_of(MIGRATE).get("applied") else "no"
    applied: Applied = "no"
    for number in range(1, settings.runs + settings.lock_attempts + 1):
        look = look_at_job(client, namespace, plan.release_id, number)
        if look.state == "running":
            return True, "unknown"
        known = journal is not None and journal.is_done(made_step(number))
        if look.end is None:
            # A Job that is known to have been made and is gone tells nothing any more.
            return False, "unknown" if known else applied
        try:
            before = read_before(environment, plan.release_id, number)
        except ObjectMissingError:
            return False, "unknown"
        _after, judgement = judge_end(environment, before, look.end)
        if judgement.outcome == "applied":
            applied = "partly" if judgement.again else "yes"
        elif judgement.outcome in {"partial", "unknown"}:
            return False, "partly" if judgement.outcome == "partial" else "unknown"
    return False, applied


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


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names)[:_NAMES_AT_MOST]


def _key(environment: Environment, release_id: str, attempt: int) -> str:
    return f"{release_folder(environment.prefix, release_id)}before-migration-{attempt}.json"
