"""The signed object that says that a backup is damaged (core.damage), read and written."""

from collections.abc import Sequence

from core.damage import Damaged
from core.environment import Environment
from core.keys import DAMAGED, backup_folder
from core.signature import SigningKey
from tasks.catalogue import read_state
from tasks.object_store import ObjectStore
from tasks.sealed import read_record, sealed_bytes


def read_mark(
    store: ObjectStore, environment: Environment, database: str, backup_id: str, keys: Sequence[SigningKey]
) -> Damaged | None:
    """Return a backup's mark, None without one. Raise PermanentError when it is forged, damaged, another backup's or of a newer nightshift."""
    document = read_state(store, environment, database, backup_id, keys, state=DAMAGED)
    if document is None:
        return None
    return read_record(document, Damaged, what="the mark", on=mark_address(store, environment, database, backup_id))


def write_mark(store: ObjectStore, environment: Environment, database: str, mark: Damaged, key: SigningKey) -> None:
    """Write a mark, in place of one that is there."""
    store.put(backup_folder(environment.prefix, database, mark.backup_id) + DAMAGED, sealed_bytes(mark, key))


def mark_address(store: ObjectStore, environment: Environment, database: str, backup_id: str) -> str:
    """Where a backup's mark lies, for people."""
    return f"s3://{store.bucket}/{backup_folder(environment.prefix, database, backup_id)}{DAMAGED}"
