"""What a migration did: judged by the migration table and the catalogue before and after, never by the Job alone.

What neither shows is not seen: rows that a step changed outside of a transaction before it failed.
"""

from collections.abc import Iterator
from typing import Literal

from core.checks import Check
from core.environment_migration import Migration
from core.manifest import Record, Sha256
from core.migration_end import JobEnd

Outcome = Literal["applied", "nothing-to-do", "clean", "partial", "unknown"]


class MigrationSession(Record):
    """A session that is a migration, or may be one. `why`: holds the advisory lock, has the migration's name, or came from its Pod."""

    pid: int
    application_name: str
    client: str
    state: str
    why: str

    def __str__(self) -> str:
        return f"pid {self.pid}, application {self.application_name!r}, client {self.client}, {self.state or 'state not shown'}: {self.why}"


class MigrationState(Record):
    """A database's state as far as migrations change it.

    `names`: the migration table's, in order; `locked`: what the migrator's lock table says (None: it has none); `fingerprint`: the schema's, without the
    migrator's own tables; `sessions`: migrations that live.
    """

    table_exists: bool
    names: tuple[str, ...]
    locked: bool | None
    invalid_indexes: tuple[str, ...]
    fingerprint: Sha256
    sessions: tuple[MigrationSession, ...] = ()


class Judgement(Record):
    """What came of one attempt. `again`: why a next one is right (pending: more to apply; lock-timeout: nothing changed); "" when none may follow by itself."""

    outcome: Outcome
    sentence: str
    next_step: str
    applied: tuple[str, ...] = ()
    again: Literal["", "pending", "lock-timeout"] = ""
    findings: tuple[Check, ...] = ()

    @property
    def good(self) -> bool:
        """Whether the release may go on: the migration is complete, and nothing about it failed."""
        return (
            self.outcome in {"applied", "nothing-to-do"}
            and not self.again
            and all(one.state != "failed" for one in self.findings)
        )


_LOOK = "Look at the migration table and the Job's log, then decide: complete it by hand, restore, or go on with a forward fix"


def judge(before: MigrationState | None, after: MigrationState | None, job: JobEnd, settings: Migration) -> Judgement:
    """Given the states before and after (None: could not be read) and how the Job ended, return what came of it."""
    if before is None or after is None:
        which = "before" if before is None else "after"
        return _judged(
            "unknown", f"the database's state {which} the migration is not known", "Reach the database, then look again"
        )
    # Of a Job whose command was not started, no session is: another migrator's, most likely, which its sentence names.
    if after.sessions and not (job.state == "failed" and job.started is False):
        told = "; ".join(map(str, after.sessions))
        return _judged(
            "unknown",
            f"a migration still runs in the server: {told}",
            "Wait for these sessions to end, then look again",
        )
    if job.state == "gone":
        return _judged("unknown", "the Job was removed while it ran", f"Find out who removed it. {_LOOK}")
    findings = tuple(_findings(before, after, job, settings))
    applied = after.names[len(before.names) :] if after.names[: len(before.names)] == before.names else ()
    changed = _changes(before, after)
    succeeded = job.state == "succeeded"
    judgement = _of_success(before, after, job, settings, changed) if succeeded else _of_failure(job, changed)
    return judgement.model_copy(update={"applied": applied, "findings": findings})


def _of_success(
    before: MigrationState, after: MigrationState, job: JobEnd, settings: Migration, changed: str
) -> Judgement:
    if wrong := _not_complete(before, after, job, settings):
        return wrong
    number = len(after.names) - len(before.names)
    if job.pending:
        told = ", ".join(job.pending)
        if number:
            found = f"{_counted(number)} applied, and still pending: {told}"
            return _judged("applied", found, again="pending")
        found = f"the Job succeeded and applied nothing, and still pending: {told}"
        outcome: Outcome = "partial" if changed else "clean"
        return _judged(outcome, found, "Look at the Job's log; does the command migrate the same database?")
    if number:
        return _judged("applied", f"{_counted(number)} applied: {', '.join(after.names[-number:])}")
    if changed:
        found = f"the Job succeeded and recorded no migration in {settings.table}, and {changed}"
        step = "Find out who changed it: the migration, past its own table, or somebody else"
        return _judged("unknown", found, step)
    return _judged("nothing-to-do", "no migration was to be applied")


def _not_complete(before: MigrationState, after: MigrationState, job: JobEnd, settings: Migration) -> Judgement | None:
    """Why a Job that succeeded is not to be believed; None when nothing speaks against it."""
    if not after.table_exists:
        found = f"the Job succeeded, and there is no table {settings.table}"
        step = "Correct release.migration.table, or find out which database the Job migrated"
        return _judged("unknown", found, step)
    if new_invalid := _new_invalid(before, after):
        found = f"the Job succeeded and left invalid indexes: {', '.join(new_invalid)}"
        return _judged("partial", found, _INVALID)
    if after.names[: len(before.names)] != before.names:
        found = f"the Job succeeded, and the table {settings.table} has lost or reordered names of before"
        return _judged("partial", found, _LOOK)
    if settings.pending_command is not None and job.pending is None:
        code = job.pending_exit_code
        told = "what came of it was not told" if code is None else f"exit code {code}"
        found = f"the Job succeeded, and whether migrations are pending could not be found out: {told}"
        return _judged("unknown", found, "Run release.migration.pending_command by hand, and mend it")
    return None


def _counted(number: int) -> str:
    return "1 migration was" if number == 1 else f"{number} migrations were"


def _of_failure(job: JobEnd, changed: str) -> Judgement:
    how = _how(job)
    if changed and (job.started is False or job.state == "never created"):
        found = f"{how}, and meanwhile {changed}, by another migration then"
        return _judged("unknown", found, "Find out what it did and whether it has ended, then release again")
    if changed:
        return _judged("partial", f"{how}, and {changed}", _LOOK)
    if job.state == "never created" or job.started is False:
        return _judged("clean", f"{how}; nothing was changed", _after_clean(job))
    if job.pods > 1:
        return _judged("unknown", f"{how}; it had {job.pods} Pods, and may have been run more than once", _LOOK)
    if job.killed and not job.lock.named:
        found = f"{how}, and nothing was changed yet; whether its session has ended is not known, since none of its name was ever seen"
        return _judged("unknown", found, "Look for its session in pg_stat_activity; when it has ended, look again")
    again: Literal["", "lock-timeout"] = "lock-timeout" if job.lock_timeout else ""
    return _judged("clean", f"{how}; nothing was changed", _after_clean(job), again=again)


_INVALID = "Drop each with DROP INDEX CONCURRENTLY and create it again, or REINDEX INDEX CONCURRENTLY; PostgreSQL does not use it, but keeps it up"


def _how(job: JobEnd) -> str:
    if job.state == "never created":
        return "the Job was never created"
    if job.started is False and job.lock.holder:
        return f"the migration was not started: {_holder(job)}"
    if job.lock_timeout:
        return f"the migration failed, since it did not get a lock within lock_timeout ({job.reason})"
    return f"the migration {'was not started' if job.started is False else 'failed'} ({job.reason})"


def _holder(job: JobEnd) -> str:
    told = job.lock.holder
    return told if told.startswith("could not connect") else f"another migrator holds its lock ({told})"


def _after_clean(job: JobEnd) -> str:
    if job.started is False and job.lock.holder.startswith("could not connect"):
        return "Mend the address that the Job is given (release.migration.secret), then release again"
    if job.started is False and job.lock.holder:
        return "Wait for the other migration, or end its session, then release again"
    if job.lock_timeout:
        return "Find the session that holds the table's lock (pg_locks), then release again"
    return "Mend the cause that the Job's log tells, then release again"


def _changes(before: MigrationState, after: MigrationState) -> str:
    """What differs, in words; "" when nothing does. The migrator's own tables, which a first run creates, do not count."""
    told = []
    if after.names != before.names:
        told.append(f"the migration table has {len(after.names)} names, and had {len(before.names)}")
    if new := _new_invalid(before, after):
        told.append(f"indexes are invalid: {', '.join(new)}")
    elif after.invalid_indexes != before.invalid_indexes:
        told.append("an invalid index is gone")
    if after.fingerprint != before.fingerprint:
        told.append("the schema is another one")
    return " and ".join(told)


def _new_invalid(before: MigrationState, after: MigrationState) -> tuple[str, ...]:
    return tuple(sorted(set(after.invalid_indexes) - set(before.invalid_indexes)))


def _findings(before: MigrationState, after: MigrationState, job: JobEnd, settings: Migration) -> Iterator[Check]:
    for name in _new_invalid(before, after):
        yield Check(name="invalid index", state="failed", found=f"{name} was left invalid", next_step=_INVALID)
    for name in sorted(set(before.invalid_indexes) & set(after.invalid_indexes)):
        yield Check(
            name="invalid index", state="warning", found=f"{name} was invalid before already", next_step=_INVALID
        )
    if after.locked:
        since = "was set before already" if before.locked else "was left set by this migration"
        step = "When no migration runs, release it: npx knex migrate:unlock"
        yield Check(name="migrator's lock", state="warning", found=f"{settings.lock_table} {since}", next_step=step)
    if settings.pending_command is None:
        found = "whether migrations are still pending was not checked"
        yield Check(name="pending", state="warning", found=found, next_step="Set release.migration.pending_command")
    if job.started is not False and job.state in {"succeeded", "failed"}:
        yield from _lock_findings(job, settings)


def _lock_findings(job: JobEnd, settings: Migration) -> Iterator[Check]:
    lock = job.lock
    if lock.named:
        proof = "took PGOPTIONS" if settings.named_by == "PGOPTIONS" else "took PGAPPNAME, so most likely PGOPTIONS too"
        yield Check(name="lock_timeout", state="passed", found=f"a session of the migration {proof}")
    else:
        found = "no session of the migration's name was seen: whether it took lock_timeout from PGOPTIONS is not known"
        step = "Use a driver that reads PGOPTIONS; for psql set release.migration.named_by = 'PGAPPNAME'"
        yield Check(name="lock_timeout", state="warning", found=found, next_step=step)
    if lock.lost:
        found = "the session that held the advisory lock was lost while the migration ran"
        yield Check(
            name="advisory lock", state="warning", found=found, next_step="See that no other migration ran beside it"
        )
    elif lock.held:
        yield Check(name="advisory lock", state="passed", found="held while the migration ran")
    else:
        yield Check(name="advisory lock", state="warning", found="whether it was held to the end was not told")


def _judged(
    outcome: Outcome, sentence: str, next_step: str = "", *, again: Literal["", "pending", "lock-timeout"] = ""
) -> Judgement:
    return Judgement(outcome=outcome, sentence=sentence, next_step=next_step, again=again)
