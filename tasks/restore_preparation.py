"""What is refused before a restore touches anything, and what it needs to know of the server and of the programs here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from core.database_statements import name_problem, temporary_name
from core.environment_database import Database
from core.errors import ConfigurationError, PermanentError
from core.manifest import Manifest
from tasks.clients import Clients, find_clients
from tasks.pooler import find_pooler
from tasks.postgres import Connection, describe, translated
from tasks.restore_target import (
    Identity,
    begun_databases,
    database_exists,
    drop_own_leftover,
    has_own_leftover,
    leftovers,
    read_identity,
)


@dataclass(frozen=True)
class Prepared:
    """What was found. `missing_extensions` are to be skipped; `notes` are for the report."""

    identity: Identity
    clients: Clients
    server_version: str
    missing_extensions: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def server_major(self) -> int:
        """The target server's."""
        return self.identity.server_version_number // 10_000


def prepare(
    session: Connection,
    login: Database,
    manifest: Manifest,
    *,
    restore_id: str,
    target: str | None,
    purpose: Literal["restore", "drill"],
    allow_missing_extensions: bool,
) -> Prepared:
    """Given the session with the locks, refuse what cannot end well and drop what an earlier attempt of this restore left. Raise as `examine`."""
    prepared = examine(
        session,
        login,
        manifest,
        restore_id=restore_id,
        target=target,
        purpose=purpose,
        allow_missing_extensions=allow_missing_extensions,
    )
    with translated("prepare the restore", describe(login)):
        if not drop_own_leftover(session, login, restore_id):
            return prepared
    note = f"{temporary_name(restore_id)}, left by an earlier attempt of this restore, was dropped"
    return replace(prepared, notes=(*prepared.notes, note))


def examine(
    session: Connection,
    login: Database,
    manifest: Manifest,
    *,
    restore_id: str,
    target: str | None,
    purpose: Literal["restore", "drill"],
    allow_missing_extensions: bool,
) -> Prepared:
    """Given a session on the maintenance database, refuse what cannot end well. Nothing is changed, and no lock is taken.

    Raise ConfigurationError for a name that cannot be had, PermanentError when it is taken, the server is older than the dump's, a standby, behind a transaction
    pooler, lacks an extension (unless these may be missing), or the role may not make databases; when the copy's temporary name is somebody else's; or when no
    pg_restore fits.
    """
    on = describe(login)
    if target is not None and (problem := name_problem(target)):
        raise ConfigurationError("restore under the name", repr(target), problem, "Choose another name")
    if pooler := find_pooler(login):
        raise PermanentError(
            "restore through the server",
            on,
            f"a transaction pooler stands between: {pooler}",
            "Name the direct address in [servers]",
        )
    identity = read_identity(session, login)
    with translated("prepare the restore", on):
        version = _refuse_server(session, login, identity, manifest)
        if target is not None and database_exists(session, target):
            raise PermanentError(
                "restore under the name",
                f"{target} on {login.host}:{login.port}",
                "a database of this name exists, and none is ever overwritten",
                "Choose another name; or restore beside it and swap",
            )
        missing = _missing_extensions(session, manifest)
        if missing and not allow_missing_extensions:
            raise PermanentError(
                "restore the extensions",
                on,
                f"the server does not offer: {', '.join(missing)}",
                "Install them there, or allow missing extensions: what needs them is then left out, and nothing is proven",
            )
        notes = list(_notes(version, manifest))
        has_own_leftover(session, login, restore_id)
        begun = begun_databases(session)
    clients = find_clients(max(int(manifest.tools.pg_dump.split(".")[0]), identity.server_version_number // 10_000))
    if begun and purpose == "restore":
        notes += [
            f"{left.name} was left by a {left.marker.nightshift} that was killed ({left.marker.begun:%Y-%m-%d %H:%M} UTC); remove it: {left.drop}"
            for left in leftovers(login)
        ]
    return Prepared(identity, clients, version, missing, tuple(notes))


def _refuse_server(session: Connection, login: Database, identity: Identity, manifest: Manifest) -> str:
    """Return the server's version."""
    on = describe(login)
    row = session.execute(
        "SELECT pg_catalog.current_setting('server_version'), r.rolsuper OR r.rolcreatedb FROM pg_catalog.pg_roles AS r"
        " WHERE r.rolname = CURRENT_USER"
    ).fetchone()
    version, may_create = row or ("", False)
    if identity.in_recovery:
        raise PermanentError("restore on the server", on, "it is a standby, which is read-only", "Name its primary")
    if identity.server_version_number // 10_000 < manifest.server.version_number // 10_000:
        raise PermanentError(
            "restore on the server",
            on,
            f"it is PostgreSQL {version}, older than the dump's {manifest.server.version}",
            f"Restore on PostgreSQL {manifest.server.version_number // 10_000} or newer",
        )
    if not may_create:
        raise PermanentError(
            "restore on the server", on, f"{login.user} may not make databases", f"ALTER ROLE {login.user} CREATEDB;"
        )
    return str(version)


def _missing_extensions(session: Connection, manifest: Manifest) -> tuple[str, ...]:
    offered = {name for (name,) in session.execute("SELECT name FROM pg_catalog.pg_available_extensions").fetchall()}
    return tuple(extension.name for extension in manifest.extensions if extension.name not in offered)


def _notes(version: str, manifest: Manifest) -> tuple[str, ...]:
    notes = []
    if version.split(".", maxsplit=1)[0] != manifest.server.version.split(".")[0]:
        notes.append(f"across versions: dumped from PostgreSQL {manifest.server.version}, restored on {version}")
    if manifest.properties.tablespace != "pg_default":
        notes.append(
            f"the source's tablespace {manifest.properties.tablespace} was not made: all is in the default one"
        )
    return tuple(notes)
