"""The steps of a restore, each a Prefect task that can be repeated by itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from prefect import get_run_logger

from core.environment import Environment
from core.environment_restore import RestoreServer
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.evidence import Finding
from core.keys import restore_key
from core.manifest import Record
from core.restore_choice import Option
from core.restore_facts import restored_facts
from core.restore_record import Phase, Restored, WaitingCopy
from core.restored_comparison import Verification
from core.swap_plan import restored_name
from tasks.catalogue import read_manifest
from tasks.chosen_backup import ChosenBackup, find_backup, restore_options
from tasks.environments import load_environment
from tasks.masking import check_masking, mask_copy, read_masking
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.progress import Progress, shown_progress
from tasks.recording import utc_now
from tasks.restore_backup import RestoreOrder, restore_backup
from tasks.restore_target import identity_of, login_of
from tasks.retrying import step
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys
from tasks.verify_restored import verify_restored

MIB = 1024 * 1024
_NAMED_AT_MOST = 10


class RestoreRequest(Record):
    """What a person asked for, completed: which copy of which backup becomes which database where."""

    environment: str
    database: str
    server: str
    target: str
    restore_id: str
    flow_run_id: str
    jobs: int
    tables: tuple[str, ...] = ()
    masking: str = ""
    allow_missing_extensions: bool = False


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


def complete_request(
    environment: Environment, database: str, *, server: str, target: str, flow_run_id: str, jobs: int, **more: Any
) -> RestoreRequest:
    """Given a form's fields, return the request. Raise ConfigurationError for a database, server or masking file that does not exist."""
    if database not in environment.databases:
        known = ", ".join(environment.databases)
        raise ConfigurationError("restore", f"{environment.name}/{database}", "no such database", f"It has {known}")
    if not environment.servers:
        raise ConfigurationError(
            "restore",
            environment.name,
            "no server to restore to is configured",
            "Add a table [servers.NAME]; docs/restore.md",
        )
    if not server and len(environment.servers) > 1:
        raise ConfigurationError(
            "choose a server", environment.name, "there are several", ", ".join(environment.servers)
        )
    name = server or next(iter(environment.servers))
    if name not in environment.servers:
        raise ConfigurationError(
            "choose a server", name, "no such server", f"There are {', '.join(environment.servers)}"
        )
    masking = more.get("masking", "")
    if masking and not Path(masking).is_file():
        raise ConfigurationError(
            "mask the copy", masking, "the worker has no such file", "Give a path that the worker can read"
        )
    if masking:
        # Now rather than after hours of restoring.
        check_masking(read_masking(Path(masking)), masking)
    # Of all of the run's id: the beginning alone is a time in ids of version 7, and two runs of a minute would share it.
    restore_id = hashlib.sha256(flow_run_id.encode()).hexdigest()[:8]
    return RestoreRequest(
        environment=environment.name,
        database=database,
        server=name,
        target=target or restored_name(environment.databases[database].name, restore_id),
        restore_id=restore_id,
        flow_run_id=flow_run_id,
        jobs=jobs or environment.restore.jobs,
        **more,
    )


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

    Raise IntegrityError when it is not what was backed up; then, and whenever something else fails, the copy is dropped and nothing else was touched.
    """
    environment = load_environment(request.environment)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    manifest, _ = read_manifest(store, environment, request.database, backup_id, keys)
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
        copy.finish(request.target)
    restored = restored.model_copy(update={"name": request.target})
    return VerifiedCopy(
        restored=restored, verification=verification, facts=restored_facts(restored, manifest, verification)
    )


def with_phase(restored: Restored, name: Any, started: float) -> Restored:
    """Given a restore and when (time.monotonic) a further phase began, return it with that phase, ended now."""
    phase = Phase(name=name, ms=max(0, int((time.monotonic() - started) * 1000)))
    return restored.model_copy(update={"phases": (*restored.phases, phase)})


def require_match(verification: Verification, on: str) -> None:
    """Raise IntegrityError naming what differs, when something does; PermanentError naming what could not be looked at, when that is all that is wrong."""
    attempted = "compare the copy with its manifest"
    if verification.mismatches:
        found = _first(verification.mismatches)
        raise IntegrityError(attempted, on, found, "The copy was dropped; do not rely on this backup")
    if verification.unseen:
        found = f"nothing was found wrong, but not looked at: {_first(verification.unseen)}"
        next_step = "The copy was dropped, since nobody knows whether it is whole; this says nothing against the backup. Grant what is missing, and restore again"
        raise PermanentError(attempted, on, found, next_step)


def _first(texts: Sequence[str]) -> str:
    more = f"; and {len(texts) - _NAMED_AT_MOST} more" if len(texts) > _NAMED_AT_MOST else ""
    return "; ".join(texts[:_NAMED_AT_MOST]) + more


@step("keep the record of {request.restore_id}")
def keep_record(
    request: RestoreRequest, restored: Restored, *, swapped_as: str | None = None, old_oid: int | None = None
) -> None:
    """Write what was made, signed, so that a run that was suspended finds it again, and so that undo-swap knows the old database (`swapped_as`, and its oid)."""
    environment = load_environment(request.environment)
    record = WaitingCopy(
        environment=request.environment,
        database=request.database,
        restore_id=request.restore_id,
        flow_run_id=request.flow_run_id,
        restored=restored,
        verified_at=utc_now(),
        swapped_at=utc_now() if swapped_as else None,
        old_name=swapped_as,
        old_oid=old_oid,
    )
    ObjectStore.open(environment).put(
        restore_key(environment.prefix, request.restore_id), sealed_bytes(record, signing_keys(environment)[0])
    )


@step("look whether {record.restored.name} is still there")
def require_still_there(record: WaitingCopy) -> None:
    """Raise PermanentError when the database that this run made is gone, or another has its name."""
    restored = record.restored
    environment = load_environment(record.environment)
    name = environment.databases[record.database].name if record.swapped_at else restored.name
    found = identity_of(login_of(server_of(environment, restored.server), name))
    if (found.system_identifier, found.database_oid) != (restored.system_identifier, restored.oid):
        raise PermanentError(
            "find the restored copy again",
            f"{name} on {restored.server}",
            "what has this name is not the database that this run restored and verified",
            "Start a new restore",
        )


def server_of(environment: Environment, name: str) -> RestoreServer:
    """Given a server's name in a record, return it. Raise ConfigurationError when the environment's file does not have it any more."""
    if name not in environment.servers:
        raise ConfigurationError(
            "find the server", f"[servers.{name}]", "the environment's file does not have it any more", "Put it back"
        )
    return environment.servers[name]


@step("look for the record of {restore_id}")
def find_record(environment_name: str, restore_id: str) -> WaitingCopy | None:
    """Return what an earlier part of this run, or another run, made; None when there is no such record. Raise IntegrityError when it is forged."""
    environment = load_environment(environment_name)
    store = ObjectStore.open(environment)
    key = restore_key(environment.prefix, restore_id)
    on = f"s3://{store.bucket}/{key}"
    try:
        stored = store.get(key)
    except ObjectMissingError:
        return None
    document = open_sealed(stored, signing_keys(environment), what="the restore's record", on=on)
    record = read_record(document, WaitingCopy, what="the restore's record", on=on)
    if (record.environment, record.restore_id) != (environment.name, restore_id):
        raise IntegrityError("read the restore's record", on, "it is another restore's")
    return record
