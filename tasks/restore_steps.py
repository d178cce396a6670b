"""The steps of a restore, each a Prefect task that can be repeated by itself."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger

from core.digest_sql import quoted
from core.environment import Environment
from core.errors import DamageError, PermanentError
from core.evidence import Finding
from core.manifest import Manifest, Record
from core.restore_choice import Option
from core.restore_facts import restored_facts
from core.restore_record import Phase, Restored
from core.restored_comparison import Verification
from tasks.catalogue import read_manifest
from tasks.chosen_backup import ChosenBackup, find_backup, restore_options
from tasks.environments import load_environment
from tasks.masking import mask_copy
from tasks.object_store import ObjectStore
from tasks.progress import Progress, shown_progress
from tasks.restore_backup import restore_backup
from tasks.restore_records import keep_record, own_finished_copy
from tasks.restore_request import RestoreRequest
from tasks.restore_target import login_of
from tasks.restored_copy import RestoreOrder
from tasks.retrying import step
from tasks.secrets import signing_keys
from tasks.verify_restored import verify_restored

MIB = 1024 * 1024
_NAMED_AT_MOST = 10


class VerifiedCopy(Record):
    """A copy that was restored and compared, under the name that was asked for. `plain_bytes` and the like are the manifest's."""

    restored: Restored
    verification: Verification
    facts: dict[str, Any]

    @property
    def findings(self) -> tuple[Finding, ...]:
        """For the report: what is to be known of the copy, and what the environment does otherwise."""
        severities: dict[str, Literal["warning", "note"]] = {"environment": "warning"}
        found = [
            Finding(severity=severities.get(one.severity, "note"), text=one.text) for one in self.verification.findings
        ]
        found += [
            Finding(severity="warning", text=f"not restored: {one.entry}: {one.why}") for one in self.restored.skipped
        ]
        return (*found, *(Finding(severity="note", text=text) for text in self.restored.notes))


@step("look at the backups of {database}")
def offered_backups(environment_name: str, database: str) -> tuple[Option, ...]:
    """Return what a person chooses between: the newest proven and the newest decoded backup, each where there is one."""
    environment = load_environment(environment_name)
    return restore_options(ObjectStore.open(environment), environment, database, signing_keys(environment))


@step("choose the backup of {database}")
def choose_backup(environment_name: str, database: str, wanted: str) -> ChosenBackup:
    """Return the backup that was asked for, verified. Raise ConfigurationError when there is none such, PermanentError when it is forged or damaged."""
    environment = load_environment(environment_name)
    store = ObjectStore.open(environment)
    chosen, _ = find_backup(store, environment, database, signing_keys(environment), wanted)
    get_run_logger().info("%s (%s)", chosen.backup_id, chosen.shown_state)
    return chosen


@step("restore {backup_id}")
def restore_and_verify(request: RestoreRequest, backup_id: str) -> VerifiedCopy:
    """Restore a backup side by side, compare it with its manifest, mask it when asked, and only then give it its name.

    Raise DamageError when it is not what was backed up; then, and whenever something else fails, the copy is dropped and nothing else was touched.

    Its record is in the bucket before it has its name: an earlier attempt that was killed after that is recognised by it, and its copy is compared once more and kept.
    """
    environment = load_environment(request.environment)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    manifest, _ = read_manifest(store, environment, request.database, backup_id, keys)
    with own_finished_copy(store, environment, request) as finished:
        if finished is not None:
            return _compared_again(request, environment, manifest, finished)
    progress, logger = Progress(estimated_bytes=manifest.plain_bytes), get_run_logger()
    order = RestoreOrder(
        store=store,
        environment=environment,
        manifest=manifest,
        login=login_of(environment.servers[request.server], environment.servers[request.server].maintenance_database),
        server_name=request.server,
        restore_id=request.restore_id,
        purpose="restore",
        target=request.target,
        jobs=request.jobs,
        tables=request.tables,
        spool_parent=environment.restore.spool_directory,
        spool_reserve_bytes=environment.restore.spool_reserve_mib * MIB,
        allow_missing_extensions=request.allow_missing_extensions,
        analyze=not request.masking,
    )
    with (
        shown_progress(f"restore-{request.database}", progress, logger),
        restore_backup(order, on_bytes=progress.on_bytes, on_phase=lambda phase: logger.info("%s", phase)) as copy,
    ):
        started = time.monotonic()
        verification = verify_restored(
            copy.database,
            manifest,
            copy.restored,
            on_table=progress.on_digest,
            exclude_schemas=environment.databases[request.database].exclude_schemas,
            tables=request.tables,
        )
        require_match(verification, f"{request.server}/{request.target}")
        restored = with_phase(copy.restored, "verify", started)
        if request.masking:
            masked = mask_copy(copy.database, Path(request.masking))
            logger.info("masked: %d statements, %d rows", masked.statements, masked.rows)
            restored = restored.model_copy(update={"masked": True})
        restored = restored.model_copy(update={"name": request.target})
        keep_record(request, restored, named=False)
        copy.finish(request.target)
    return VerifiedCopy(
        restored=restored, verification=verification, facts=restored_facts(restored, manifest, verification)
    )


def _compared_again(
    request: RestoreRequest, environment: Environment, manifest: Manifest, restored: Restored
) -> VerifiedCopy:
    """The finished copy of an earlier attempt. It has had its name since, so whoever found it may have written to it: nothing drops it, and what differs is told."""
    on = f"{request.target} on {request.server}"
    kept = f"It was kept. Drop it, if nobody needs it, and press Retry; or start a new restore: DROP DATABASE {quoted(request.target)};"
    attempted = "go on from the copy that an earlier attempt of this run made"
    if restored.backup_id != manifest.backup_id:
        raise PermanentError(attempted, on, f"it was made of {restored.backup_id}, not of {manifest.backup_id}", kept)
    if restored.masked:
        found = "it is masked, and a masked copy cannot be compared with its backup once more"
        raise PermanentError(attempted, on, found, kept)
    login = login_of(environment.servers[request.server], request.target)
    verification = verify_restored(
        login,
        manifest,
        restored,
        exclude_schemas=environment.databases[request.database].exclude_schemas,
        tables=request.tables,
    )
    if verification.mismatches:
        found = f"it was changed since it was verified: {_first(verification.mismatches)}"
        raise PermanentError(attempted, on, found, kept)
    if verification.unseen:
        found = f"it cannot be compared once more; not looked at: {_first(verification.unseen)}"
        raise PermanentError(attempted, on, found, kept)
    note = "made by an earlier attempt of this run, which ended before its record was complete; compared once more now"
    restored = restored.model_copy(update={"notes": (*restored.notes, note)})
    return VerifiedCopy(
        restored=restored, verification=verification, facts=restored_facts(restored, manifest, verification)
    )


def with_phase(restored: Restored, name: Any, started: float) -> Restored:
    """Given a restore and when (time.monotonic) a further phase began, return it with that phase, ended now."""
    phase = Phase(name=name, ms=max(0, int((time.monotonic() - started) * 1000)))
    return restored.model_copy(update={"phases": (*restored.phases, phase)})


def require_match(verification: Verification, on: str) -> None:
    """Raise DamageError naming what differs, when something does. Where the copy's server damaged it, or something could not be looked at, and that is all that is wrong,
    raise PermanentError naming it."""
    attempted = "compare the copy with its manifest"
    if verification.damage:
        found = _first(verification.damage)
        raise DamageError(attempted, on, found, "The copy was dropped; do not rely on this backup")
    if verification.mismatches:
        found = _first(verification.mismatches)
        next_step = "The copy was dropped: its server damaged it, which says nothing against the backup. Look at that server's disk and memory, then restore again"
        raise PermanentError(attempted, on, found, next_step)
    if verification.unseen:
        found = f"nothing was found wrong, but not looked at: {_first(verification.unseen)}"
        next_step = "The copy was dropped, since nobody knows whether it is whole; this says nothing against the backup. Grant what is missing, and restore again"
        raise PermanentError(attempted, on, found, next_step)


def _first(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _NAMED_AT_MOST} more" if len(texts) > _NAMED_AT_MOST else ""
    return "; ".join(texts[:_NAMED_AT_MOST]) + more
