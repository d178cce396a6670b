"""The record of a restored copy in the bucket: written before the copy gets its name and completed after, found again by whoever goes on with the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from core.environment import Environment
from core.environment_restore import RestoreServer
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.keys import restore_key
from core.restore_record import Restored, WaitingCopy
from tasks.database_properties import UNKNOWN
from tasks.environments import load_environment
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.postgres import describe, translated
from tasks.recording import utc_now
from tasks.restore_locks import hold_locks
from tasks.restore_request import RestoreRequest
from tasks.restore_target import identity_of, login_of, read_identity
from tasks.retrying import step
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys


@step("keep the record of {request.restore_id}")
def keep_record(
    request: RestoreRequest,
    restored: Restored,
    *,
    named: bool = True,
    swapped_as: str | None = None,
    old_oid: int | None = None,
) -> None:
    """Write what was made, signed, so that a run that was suspended finds it again, and so that undo-swap knows the old database (`swapped_as`, and its oid).

    With `named` False, before the copy gets its name: what has that name later, and this oid, is this run's own.
    """
    environment = load_environment(request.environment)
    record = WaitingCopy(
        environment=request.environment,
        database=request.database,
        restore_id=request.restore_id,
        flow_run_id=request.flow_run_id,
        restored=restored,
        verified_at=utc_now(),
        named=named,
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
    return read_waiting_copy(ObjectStore.open(environment), environment, restore_id)


def read_waiting_copy(store: ObjectStore, environment: Environment, restore_id: str) -> WaitingCopy | None:
    """As `find_record`, within another step."""
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


@contextmanager
def own_finished_copy(
    store: ObjectStore, environment: Environment, request: RestoreRequest
) -> Iterator[Restored | None]:
    """Yield what an earlier attempt of this restore made and gave its name to, though it did not live to complete its record; None when there is no such database.

    Meanwhile the restore's locks are held: that attempt is dead. A database of this name with another oid, on another cluster, or on one whose system identifier may not
    be asked is not known to be ours: None. Raise TemporaryError or PermanentError as `tasks.restore_locks.hold_locks`.
    """
    record = read_waiting_copy(store, environment, request.restore_id)
    if record is None or record.named or record.flow_run_id != request.flow_run_id:
        yield None
        return
    server = server_of(environment, request.server)
    login = login_of(server, server.maintenance_database)
    with hold_locks(login, request.restore_id, request.target) as session:
        with translated("look for the copy of an earlier attempt", f"{request.target} on {describe(login)}"):
            row = session.execute(
                "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", (request.target,)
            ).fetchone()
        found = (request.server, request.target, row[0] if row else 0, read_identity(session, login).system_identifier)
        ours = record.restored
        is_own = found == (ours.server, ours.name, ours.oid, ours.system_identifier) and UNKNOWN not in found
        yield ours if is_own else None
