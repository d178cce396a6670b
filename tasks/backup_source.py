"""Looks whether the database that is about to be backed up is the one that the backups so far are of. Read-only, and never a reason not to back up."""

from collections.abc import Sequence
from contextlib import closing

from core.backup_source import check_source
from core.checks import Check
from core.environment import Environment
from core.errors import NightshiftError
from core.manifest import Server
from core.signature import SigningKey
from tasks.catalogue import read_catalogue
from tasks.database_properties import read_server
from tasks.object_store import ObjectStore
from tasks.postgres import connect, describe, translated
from tasks.trust import Examiner

_STATEMENT_SECONDS = 60


def check_backup_source(store: ObjectStore, environment: Environment, key: str, keys: Sequence[SigningKey]) -> Check:
    """Given a database's key, compare it with its newest decoded and its newest proven backup, whose signatures are verified; what cannot be compared is a warning."""
    try:
        examiner = Examiner(store, environment, key, keys)
        examiner.verified(read_catalogue(store, environment, key))
        manifests = [
            one.manifest for one in examiner.examined.values() if one.manifest is not None and one.worth != "incomplete"
        ]
        now = _server(environment, key) if manifests else None
    except NightshiftError as error:
        return Check(
            name=f"{key}: source",
            state="warning",
            found=f"not compared with the backups so far: {error.on}: {error.found}",
            next_step=error.next_step,
        )
    if now is None:
        return Check(name=f"{key}: source", state="passed", found="no backup yet that it could be compared with")
    return check_source(key, manifests, now)


def _server(environment: Environment, key: str) -> Server:
    database = environment.databases[key]
    with (
        closing(
            connect(database, application_name="nightshift preflight", statement_timeout_seconds=_STATEMENT_SECONDS)
        ) as session,
        translated("look at the server", describe(database)),
    ):
        return read_server(session, database)
