"""The catalogue of a database's backups, rebuilt from the bucket alone, and the signed objects that make a backup one: owner, manifest, states."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any

from core.canonical import sha256_hex
from core.catalogue import Catalogue, Owner, catalogue_of
from core.environment import Environment
from core.errors import ConfigurationError, IntegrityError, PermanentError
from core.keys import DECODED, MANIFEST, backup_folder, database_folder, owner_key
from core.manifest import Decoded, Manifest
from core.signature import SigningKey
from tasks.object_store import ObjectExistsError, ObjectMissingError, ObjectStore
from tasks.sealed import open_sealed, read_record, sealed_bytes

__all__ = [
    "claim_folder",
    "commit_manifest",
    "read_catalogue",
    "read_decoded",
    "read_manifest",
    "read_owner",
    "read_state",
    "require_own_folder",
    "require_owner",
    "write_decoded",
]


def read_catalogue(store: ObjectStore, environment: Environment, database: str) -> Catalogue:
    """Given an environment's store and a database's key, return its catalogue: one LIST, one request per 1,000 objects, nothing read or verified.

    Raise TemporaryError or PermanentError when the bucket does not answer, IntegrityError when it lists out of order.
    """
    folder = database_folder(environment.prefix, database)
    try:
        return catalogue_of(store.list(folder), folder)
    except ValueError as error:
        raise IntegrityError("read the catalogue", _address(store, folder), str(error)) from error


def claim_folder(
    store: ObjectStore, environment: Environment, database: str, key: SigningKey, keys: Sequence[SigningKey] = ()
) -> None:
    """Make sure that a database's folder is this environment's: write its signed owner object, or verify the one that is there.

    `key` signs; `keys` (default: only `key`) are accepted of an owner object that is there. Raise PermanentError when another environment owns the
    folder, IntegrityError when its owner object is forged or damaged.
    """
    owner = Owner(environment=environment.name, database=database, created=datetime.now(UTC).replace(microsecond=0))
    there = read_owner(store, environment, database, keys or (key,))
    if there is None:
        address = owner_key(environment.prefix, database)
        try:
            store.put_new(address, sealed_bytes(owner, key))
        except ObjectExistsError:
            # Somebody else claimed it between the two requests.
            there = read_owner(store, environment, database, keys or (key,))
    if there is not None:
        require_owner(there, store, environment, database)


def read_owner(store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]) -> Owner | None:
    """Return whose a database's folder is, None when nobody claimed it. Raise IntegrityError when its owner object is forged or damaged."""
    key = owner_key(environment.prefix, database)
    try:
        stored = store.get(key)
    except ObjectMissingError:
        return None
    on = _address(store, key)
    return read_record(open_sealed(stored, keys, what="the owner of the folder", on=on), Owner, what="the owner", on=on)


def require_owner(owner: Owner, store: ObjectStore, environment: Environment, database: str) -> None:
    """Raise PermanentError, naming the owner, unless this environment and database own the folder."""
    if (owner.environment, owner.database) != (environment.name, database):
        raise PermanentError(
            "use the folder",
            _address(store, database_folder(environment.prefix, database)),
            f"it belongs to database {owner.database!r} of environment {owner.environment!r} since {owner.created:%Y-%m-%d}",
            f"Give environment {environment.name!r} another store.prefix or store.bucket",
        )


def require_own_folder(store: ObjectStore, environment: Environment, database: str, keys: Sequence[SigningKey]) -> bool:
    """Return whether this environment and database own the folder, False when nobody claimed it.

    Raise PermanentError, naming the owner, when another environment owns it; IntegrityError when its owner object is forged or damaged.
    """
    owner = read_owner(store, environment, database, keys)
    if owner is not None:
        require_owner(owner, store, environment, database)
    return owner is not None


def commit_manifest(store: ObjectStore, environment: Environment, manifest: Manifest, key: SigningKey) -> None:
    """Write a backup's signed manifest, which makes it one. The last write of a backup; it never replaces another manifest.

    Raise ConfigurationError when the manifest is another environment's, ObjectExistsError when there is another one.
    """
    if manifest.environment != environment.name or manifest.database not in environment.databases:
        raise ConfigurationError(
            "commit the manifest",
            manifest.backup_id,
            f"it is of {manifest.environment}/{manifest.database}, not of a database of {environment.name}",
        )
    folder = backup_folder(environment.prefix, manifest.database, manifest.backup_id)
    store.put_new(folder + MANIFEST, sealed_bytes(manifest, key))


def read_manifest(
    store: ObjectStore, environment: Environment, database: str, backup_id: str, keys: Sequence[SigningKey]
) -> tuple[Manifest, str]:
    """Return a backup's manifest and the SHA-256 of its stored bytes.

    Raise ObjectMissingError when there is none; IntegrityError when it is unsigned, wrongly signed, changed, or of another backup, database or
    environment than its place says; PermanentError when a newer nightshift wrote it.
    """
    key = backup_folder(environment.prefix, database, backup_id) + MANIFEST
    on = _address(store, key)
    stored = store.get(key)
    manifest = read_record(open_sealed(stored, keys, what="the manifest", on=on), Manifest, what="the manifest", on=on)
    place = (environment.name, database, backup_id)
    said = (manifest.environment, manifest.database, manifest.backup_id)
    if said != place:
        # Where the folder is another environment's, this is its healthy backup: nobody may be told to remove it.
        owned = require_own_folder(store, environment, database, keys)
        copied = "Somebody copied it there; remove that folder by hand once you know why"
        unknown = "Find out whose backups these are, and remove none"
        raise IntegrityError(
            "verify the manifest",
            on,
            f"it is the manifest of {'/'.join(said)}, and lies in the folder of {'/'.join(place)}",
            copied if owned and manifest.environment == environment.name else unknown,
        )
    return manifest, sha256_hex(stored)


def write_decoded(
    store: ObjectStore, environment: Environment, database: str, decoded: Decoded, key: SigningKey
) -> None:
    """Write that a backup was decoded. One that says so already, of the same manifest and with the same key, stays; any other is replaced."""
    try:
        there = read_decoded(store, environment, database, decoded.backup_id, (key,))
    except PermanentError:
        # Forged, damaged or of another version: what was just seen is the truth.
        there = None
    if there is None or there.manifest_sha256 != decoded.manifest_sha256:
        place = backup_folder(environment.prefix, database, decoded.backup_id) + DECODED
        store.put(place, sealed_bytes(decoded, key))


def read_decoded(
    store: ObjectStore, environment: Environment, database: str, backup_id: str, keys: Sequence[SigningKey]
) -> Decoded | None:
    """Return what the decoding of a backup found, None when it was not decoded. Raise IntegrityError when it is forged, damaged or another backup's."""
    document = read_state(store, environment, database, backup_id, keys, state=DECODED)
    if document is None:
        return None
    on = _address(store, backup_folder(environment.prefix, database, backup_id) + DECODED)
    return read_record(document, Decoded, what="the state", on=on)


def read_state(
    store: ObjectStore,
    environment: Environment,
    database: str,
    backup_id: str,
    keys: Sequence[SigningKey],
    *,
    state: str,
) -> dict[str, Any] | None:
    """Return a state object (`state` is core.keys.DECODED or PROVEN) as a verified document, None when there is none.

    Its fields `backup_id` and `manifest_sha256` bind it to one manifest: the caller compares the latter. Raise IntegrityError when it is forged,
    damaged, another backup's, or another state's (a signed "decoded" copied to the place of "proven" proves nothing).
    """
    key = backup_folder(environment.prefix, database, backup_id) + state
    try:
        stored = store.get(key)
    except ObjectMissingError:
        return None
    on = _address(store, key)
    document = open_sealed(stored, keys, what="the state", on=on)
    if not str(document.get("format")).startswith(f"nightshift-{PurePosixPath(state).stem}/"):
        raise IntegrityError(
            "verify the state", on, f"its format is {document.get('format')!r}: another kind of object"
        )
    if document.get("backup_id") != backup_id:
        raise IntegrityError("verify the state", on, f"it is the state of {document.get('backup_id')!r}")
    return document


def _address(store: ObjectStore, key: str) -> str:
    return f"s3://{store.bucket}/{key}"
