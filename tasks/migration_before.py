"""The database's state before each attempt of a migration, as kept in the bucket: what the attempt is judged by, whoever is alive then."""

from typing import Literal

from core.environment import Environment
from core.errors import IntegrityError
from core.keys import release_folder
from core.manifest import Record
from core.migration_outcome import MigrationState
from tasks.migration_steps import state_before
from tasks.object_store import ObjectStore
from tasks.sealed import open_sealed, read_record, sealed_bytes
from tasks.secrets import signing_keys


class BeforeAttempt(Record):
    """The kept state."""

    format: Literal["nightshift-before-migration/1"] = "nightshift-before-migration/1"
    release_id: str
    attempt: int
    state: MigrationState


def keep_before(environment: Environment, release_id: str, attempt: int) -> None:
    """Keep the state before an attempt, whatever was kept for it before. Only called while the Job was never made."""
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


def _key(environment: Environment, release_id: str, attempt: int) -> str:
    return f"{release_folder(environment.prefix, release_id)}before-migration-{attempt}.json"
