"""What is kept of a release in the bucket: its plan, before anything is changed, and that it came to its end."""

from datetime import datetime
from typing import Literal

from pydantic import AwareDatetime

from core.environment import Environment
from core.errors import IntegrityError
from core.keys import release_closed_key, release_folder, release_plan_key, releases_folder
from core.manifest import Record
from core.release_journal import Journal, Outcome
from core.release_plan import KeptPlan, ReleasePlan
from tasks.object_store import ObjectMissingError, ObjectStore
from tasks.recording import utc_now
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys


class ClosedRelease(Record):
    """That a release, or a rollback, came to its end. Without it an object that carries its name was left in the middle."""

    format: Literal["nightshift-closed-release/1"] = "nightshift-closed-release/1"
    environment: str
    release_id: str
    outcome: Outcome
    at: AwareDatetime
    journal: Journal


def keep_plan(environment: Environment, plan: ReleasePlan, flow_run_id: str) -> str:
    """Write a plan, signed, and return its key."""
    kept = KeptPlan(plan=plan, plan_sha256=plan.sha256, flow_run_id=flow_run_id, made_at=utc_now())
    key = release_plan_key(environment.prefix, plan.release_id, plan.sha256)
    ObjectStore.open(environment).put(key, sealed_bytes(kept, signing_keys(environment)[0]))
    return key


def read_plan(environment: Environment, release_id: str, plan_sha256: str) -> ReleasePlan:
    """The plan of a release, verified. Raise ObjectMissingError when there is none, IntegrityError when it is forged or another than that of this hash."""
    return _read_kept(environment, release_plan_key(environment.prefix, release_id, plan_sha256), plan_sha256).plan


def plan_made_at(environment: Environment, release_id: str, plan_sha256: str) -> datetime:
    """When the plan of a release was made: nothing of the release was there before. Raise what read_plan raises."""
    return _read_kept(environment, release_plan_key(environment.prefix, release_id, plan_sha256), plan_sha256).made_at


def newest_plan(environment: Environment, release_id: str) -> ReleasePlan | None:
    """The plan that was written last for a release; None when there is none: then it changed nothing."""
    found = [
        one
        for one in ObjectStore.open(environment).list(release_folder(environment.prefix, release_id))
        if "/plan-" in one.key
    ]
    newest = max(found, key=lambda one: one.modified, default=None)
    return None if newest is None else _read_kept(environment, newest.key, None).plan


def _read_kept(environment: Environment, key: str, plan_sha256: str | None) -> KeptPlan:
    store = ObjectStore.open(environment)
    on = f"s3://{store.bucket}/{key}"
    document = open_sealed(store.get(key), signing_keys(environment), what="the release's plan", on=on)
    kept = read_record(document, KeptPlan, what="the release's plan", on=on)
    found = kept.plan.sha256
    if found != kept.plan_sha256 or found != (plan_sha256 or found) or kept.plan.environment != environment.name:
        raise IntegrityError(
            "read the release's plan", on, "it is another plan than the one that was begun", "Find out who wrote it"
        )
    return kept


def keep_closed(environment: Environment, journal: Journal, outcome: Outcome) -> None:
    """Write that a release came to its end, with its journal."""
    closed = ClosedRelease(
        environment=environment.name, release_id=journal.release_id, outcome=outcome, at=utc_now(), journal=journal
    )
    key = release_closed_key(environment.prefix, journal.release_id)
    ObjectStore.open(environment).put(key, sealed_bytes(closed, signing_keys(environment)[0]))


def read_closed(environment: Environment, release_id: str) -> ClosedRelease | None:
    """That a release came to its end; None when it did not, as far as the bucket tells."""
    store, key = ObjectStore.open(environment), release_closed_key(environment.prefix, release_id)
    on = f"s3://{store.bucket}/{key}"
    try:
        stored = store.get(key)
    except ObjectMissingError:
        return None
    document = open_sealed(stored, signing_keys(environment), what="the release's end", on=on)
    closed = read_record(document, ClosedRelease, what="the release's end", on=on)
    if (closed.environment, closed.release_id) != (environment.name, release_id):
        raise IntegrityError("read the release's end", on, "it is another release's")
    return closed


def closed_releases(environment: Environment, since: datetime) -> tuple[ClosedRelease, ...]:
    """What ended since then, releases and rollbacks, the oldest first. One LIST per 1,000 objects, and a GET for each."""
    store, folder = ObjectStore.open(environment), releases_folder(environment.prefix)
    ids = [
        one.key.removeprefix(folder).partition("/")[0]
        for one in store.list(folder)
        if one.key.endswith("/closed.json") and one.modified >= since
    ]
    found = [closed for one in ids if (closed := read_closed(environment, one)) is not None]
    return tuple(sorted(found, key=lambda one: one.at))
