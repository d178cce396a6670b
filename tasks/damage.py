"""Marking a backup as damaged when a drill or a restore found it so, and taking the mark away when a later one found it whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

from core.damage import MOST_TOLD, Damaged, Finder
from core.errors import DamageError, NightshiftError, PermanentError
from core.evidence import Finding
from core.restore_record import Restored
from core.restored_comparison import Verification
from tasks.catalogue import read_manifest
from tasks.damage_mark import read_mark, write_mark
from tasks.environments import load_environment
from tasks.object_store import ObjectStore
from tasks.recording import Record, utc_now
from tasks.retrying import step
from tasks.secrets import signing_keys


@contextmanager
def damage_marked(
    record: Record, environment_name: str, database: str, backup_id: str, *, flow: Finder, run_id: str
) -> Iterator[None]:
    """Around what restores or compares a backup: damage that it finds is marked in the bucket. The error goes on, whether that went well or not."""
    try:
        yield
    except DamageError as error:
        tell_damage(record, environment_name, database, backup_id, str(error), flow=flow, run_id=run_id)
        raise


def tell_damage(
    record: Record, environment_name: str, database: str, backup_id: str, found: str, *, flow: Finder, run_id: str
) -> None:
    """Mark a backup as damaged, as a step of the report. What keeps it from that is a warning there."""
    with record.step("mark damaged") as notes:
        try:
            mark_damaged(environment_name, database, backup_id, found, flow=flow, run_id=run_id)
        except NightshiftError as error:
            text = f"the backup could not be marked as damaged, so it counts as before: {error}"
            notes.add(facts={}, findings=[Finding(severity="warning", text=text)])
            get_run_logger().warning("%s", text)


@step("mark {backup_id} damaged")
def mark_damaged(
    environment_name: str, database: str, backup_id: str, found: str, *, flow: Finder, run_id: str
) -> None:
    """Write the signed state object that says that a backup's data is not what was recorded."""
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    _, sha256 = read_manifest(store, environment, database, backup_id, keys)
    mark = Damaged(
        backup_id=backup_id,
        manifest_sha256=sha256,
        found=found if len(found) <= MOST_TOLD else f"{found[: MOST_TOLD - 1]}…",
        found_at=utc_now(),
        flow=flow,
        run_id=run_id,
    )
    write_mark(store, environment, database, mark, keys[0])


def mark_taken_away(environment_name: str, database: str, backup_id: str, run_id: str) -> tuple[Finding, ...]:
    """Given a backup that was just found whole, take its mark away if it has one that stands; return a note that says so, nothing when there was nothing to do.

    What keeps it from that is a warning, and raises nothing: the copy is as good.
    """
    try:
        told = _take_mark_away(environment_name, database, backup_id, run_id)
    except NightshiftError as error:
        text = f"{backup_id} is whole, but the mark that calls it damaged could not be taken away: {error}"
        return (Finding(severity="warning", text=text),)
    return (Finding(severity="note", text=told),) if told else ()


@step("take the mark of {backup_id} away")
def _take_mark_away(environment_name: str, database: str, backup_id: str, run_id: str) -> str:
    environment = load_environment(environment_name)
    store, keys = ObjectStore.open(environment), signing_keys(environment)
    try:
        mark = read_mark(store, environment, database, backup_id, keys)
    except PermanentError:
        # Forged or junk, so it hid nothing; it stays for somebody to look at.
        return ""
    if mark is None or not mark.stands:
        return ""
    whole = mark.model_copy(update={"whole_at": utc_now(), "whole_run_id": run_id})
    write_mark(store, environment, database, whole, keys[0])
    return f"{backup_id} was marked as damaged on {mark.found_at:%Y-%m-%d %H:%M} UTC, and is whole now: the mark was taken away"


def wholly_good(restored: Restored, verification: Verification) -> bool:
    """Whether all of a backup was fetched, restored and compared, and nothing differed."""
    return verification.matches and not restored.partial and not restored.skipped
