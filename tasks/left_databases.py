"""Databases whose backups lie in the bucket and that left the environment's file: nothing backs them up, proves them or prunes them any more."""

from collections.abc import Iterator, Sequence

from core.environment import Environment
from core.errors import PermanentError
from core.keys import RESERVED_DATABASE_NAMES, database_folder, owner_key
from core.signature import SigningKey
from tasks.catalogue import require_own_folder
from tasks.object_store import ObjectStore


def left_databases(store: ObjectStore, environment: Environment, keys: Sequence[SigningKey]) -> Iterator[str]:
    """Yield a sentence for each folder of this environment whose database is not in its file; folders that another environment owns are passed over.

    One LIST of the folders alone, two requests for each that is not in the file. Raise TemporaryError when S3 does not answer.
    """
    known = environment.databases.keys() | RESERVED_DATABASE_NAMES
    for name in store.folders(f"{environment.prefix}/"):
        if name in known:
            continue
        try:
            owned = require_own_folder(store, environment, name, keys)
        except PermanentError:
            # Another environment's, under the same prefix; or nobody can say whose it is.
            continue
        folder = database_folder(environment.prefix, name)
        if owned and any(item.key != owner_key(environment.prefix, name) for item in store.list(folder)):
            yield f"backups of {name} are there (s3://{store.bucket}/{folder}), and the file has no databases.{name}: nothing backs it up any more"
