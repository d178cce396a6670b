"""The server that a restore makes a database on: who is who, what may never be touched, what a killed restore left. The locks that keep two apart are
tasks.restore_locks'."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import psycopg
from psycopg import sql
from pydantic import ValidationError

from core.database_statements import Marker, read_marker, temporary_name
from core.environment import Environment
from core.environment_database import Database
from core.environment_restore import RestoreServer
from core.errors import ConfigurationError, NightshiftError, PermanentError, TemporaryError
from core.manifest import Manifest
from tasks.database_properties import UNKNOWN, read_server
from tasks.postgres import Connection, connect, describe, translated
from tasks.restore_locks import holder, restore_key, try_lock
from tasks.restore_roles import sweep_roles
from tasks.restored_session import connect_to_copy

_NAMED = r"^nightshift_[0-9a-f]{8}$"


@dataclass(frozen=True)
class Identity:
    """Which database of which cluster a session is in. `system_identifier` is `unknown` where the role may not ask."""

    system_identifier: str
    database_oid: int
    server_version_number: int
    name: str = ""
    in_recovery: bool = False

    def is_same(self, other: Identity) -> bool:
        """Whether both are known to be one database. Where a system identifier is unknown nothing is known: oids of two clusters often agree."""
        return (
            UNKNOWN not in {self.system_identifier, other.system_identifier}
            and self.system_identifier == other.system_identifier
            and self.database_oid == other.database_oid
        )


@dataclass(frozen=True)
class Leftover:
    """A database that a restore began and nobody finishes. `drop` is the command that removes it."""

    name: str
    marker: Marker

    @property
    def drop(self) -> str:
        """For psql, on the maintenance database."""
        return f"DROP DATABASE {self.name} WITH (FORCE);"


def login_of(server: RestoreServer, database: str) -> Database:
    """Given a server of the environment's file, return the record to connect to one of its databases. Raise ConfigurationError when it cannot be one."""
    try:
        return Database(
            host=server.host,
            port=server.port,
            name=database,
            user=server.user,
            password=server.password,
            sslmode=server.sslmode,
            sslrootcert=server.sslrootcert,
        )
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]["msg"]
        raise ConfigurationError(
            "use the server", f"{server.host}:{server.port}", found, "Correct [servers] in the environment file"
        ) from error


def identity_of(login: Database) -> Identity:
    """Given a login, return which database of which cluster it leads to. Raise as `tasks.postgres.connect`."""
    with closing(connect_to_copy(login, application_name="nightshift restore")) as connection:
        return read_identity(connection, login)


def read_identity(connection: Connection, login: Database) -> Identity:
    """As `identity_of`, for a session that stands. `login` is for messages."""
    with translated("identify the database", describe(login)):
        server = read_server(connection, login)
    return Identity(
        server.system_identifier, server.database_oid, server.version_number, server.database_name, server.in_recovery
    )


def refuse_sources(copy: Identity, login: Database, environment: Environment, manifest: Manifest) -> tuple[str, ...]:
    """Given the identity of the database that is to be restored into and its login, raise PermanentError when it is one that backups are taken of.

    Compared with the manifest's source and with every database of the environment that can be reached. Return a note for each that cannot: a source may be what was lost.
    """
    recorded = Identity(manifest.server.system_identifier, manifest.server.database_oid, manifest.server.version_number)
    if copy.is_same(recorded):
        raise _leads_astray(login, f"it is the source of the backup, {manifest.server.database_name}")
    notes = []
    for key, source in environment.databases.items():
        try:
            found = identity_of(source)
        except NightshiftError as error:
            notes.append(f"[databases.{key}] could not be compared with the copy: {error.found}")
            continue
        if copy.is_same(found):
            raise _leads_astray(login, f"it is [databases.{key}] of the environment")
    return tuple(notes)


def verify_copy(
    maintenance: Connection, maintenance_login: Database, copy_login: Database, created_oid: int, *, empty: bool = True
) -> Identity:
    """Given the session that made a database, and the login that everything else will use, prove that this login leads to that database of that running cluster.

    Raise PermanentError when name, oid, system identifier or the cluster's locks differ, or when it already holds tables. A pooler or an alias may lead anywhere.
    """
    holder = maintenance.info.backend_pid
    expected = read_identity(maintenance, maintenance_login)
    with closing(connect(copy_login, application_name="nightshift restore")) as session:
        found = read_identity(session, copy_login)
        with translated("identify the database", describe(copy_login)):
            locks = session.execute(
                "SELECT count(*) FROM pg_catalog.pg_locks WHERE locktype = 'advisory' AND pid = %s", (holder,)
            ).fetchone()
            relations = session.execute("SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384").fetchone()
    problems = (
        (found.name != copy_login.name, f"its name there is {found.name}"),
        (found.database_oid != created_oid, f"its oid is {found.database_oid}, that of the new one {created_oid}"),
        (found.system_identifier != expected.system_identifier, "it is on another cluster than the new one"),
        (not locks or locks[0] == 0, "the locks of this restore are not held on its server"),
        (empty and bool(relations and relations[0]), "it already holds tables"),
    )
    for is_so, sentence in problems:
        if is_so:
            raise _leads_astray(copy_login, sentence)
    return found


def _leads_astray(login: Database, found: str) -> PermanentError:
    return PermanentError(
        "restore into the new database",
        describe(login),
        f"the login leads to another database: a pooler or an alias; {found}",
        "Name the server's direct address in [servers]; nothing was written there",
    )


def database_exists(connection: Connection, name: str) -> bool:
    """Whether the server has a database of this name. Raise psycopg.Error."""
    return connection.execute("SELECT 1 FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone() is not None


def begun_databases(connection: Connection) -> tuple[tuple[str, Marker | None], ...]:
    """The databases that are called as unfinished copies are, with their markers, None where the comment is none. Raise psycopg.Error."""
    rows = connection.execute(
        "SELECT datname, pg_catalog.shobj_description(oid, 'pg_database') FROM pg_catalog.pg_database"
        " WHERE datname ~ %s ORDER BY 1",
        (_NAMED,),
    ).fetchall()
    return tuple((name, read_marker(comment)) for name, comment in rows)


def leftovers(login: Database) -> tuple[Leftover, ...]:
    """Given the maintenance login, return what restores and drills began and nobody works on any more. Only looks: no lock is taken."""
    with (
        closing(connect(login, application_name="nightshift leftovers")) as connection,
        translated("look for leftovers", describe(login)),
    ):
        return tuple(
            Leftover(name, marker)
            for name, marker in begun_databases(connection)
            if marker is not None
            and _is_its_own(name, marker)
            and holder(connection, restore_key(marker.restore_id)) is None
        )


def sweep_drills(login: Database, environment_name: str) -> tuple[str, ...]:
    """Given the maintenance login, drop the databases and roles that killed drills of this environment left, and nothing else; return a word on each."""
    dropped = []
    with (
        closing(connect(login, application_name="nightshift sweep")) as connection,
        translated("sweep the leftovers of drills", describe(login)),
    ):
        for name, marker in begun_databases(connection):
            if marker is None or marker.nightshift != "drill" or marker.environment != environment_name:
                continue
            # The lock is kept while it is dropped: its drill cannot begin anew meanwhile.
            if _is_abandoned(connection, name, marker):
                drop_database(connection, login, name)
                dropped.append(f"database {name}")
                _unlock(connection, marker)
        dropped += [f"role {name}" for name in sweep_roles(connection, environment_name)]
    return tuple(dropped)


def _is_its_own(name: str, marker: Marker) -> bool:
    """Whether a marker is that of the database that it was found on."""
    try:
        return name == temporary_name(marker.restore_id)
    except ValueError:
        return False


def _is_abandoned(connection: Connection, name: str, marker: Marker) -> bool:
    """Whether nobody works on it; the lock is taken then."""
    return _is_its_own(name, marker) and try_lock(connection, restore_key(marker.restore_id))


def _unlock(connection: Connection, marker: Marker) -> None:
    connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (restore_key(marker.restore_id),))


def drop_own_leftover(connection: Connection, login: Database, restore_id: str) -> bool:
    """Given the session with the locks, drop what an earlier attempt of the same restore left; tell whether there was any. Raise as `has_own_leftover`."""
    if not has_own_leftover(connection, login, restore_id):
        return False
    drop_database(connection, login, temporary_name(restore_id))
    return True


def has_own_leftover(connection: Connection, login: Database, restore_id: str) -> bool:
    """Given a session on the maintenance database, tell whether an earlier attempt of the same restore left its database. Only looks.

    Raise PermanentError when the database of that name is somebody else's.
    """
    name = temporary_name(restore_id)
    found = dict(begun_databases(connection))
    if name not in found:
        return False
    marker = found[name]
    if marker is None:
        # Killed between CREATE DATABASE and its comment: then there is nothing in it.
        copy = login.model_copy(update={"name": name})
        with closing(connect(copy, application_name="nightshift restore")) as session:
            row = session.execute("SELECT count(*) FROM pg_catalog.pg_class WHERE oid >= 16384").fetchone()
        is_own = row is not None and row[0] == 0
    else:
        is_own = marker.restore_id == restore_id
    if not is_own:
        raise PermanentError(
            "begin the restore",
            describe(login),
            f"there is a database {name} that this restore did not make",
            f"Rename it, or remove it: DROP DATABASE {name};",
        )
    return True


def require_no_alias(login: Database, name: str) -> None:
    """Given the maintenance login and the name of a database that is not there, raise PermanentError when that login reaches one all the same, or may not ask for it.

    A pooler or an alias that leads every name to one database is seen so before anything is made.
    """
    copy = login.model_copy(update={"name": name})
    try:
        session = connect(copy, application_name="nightshift restore")
    except PermanentError as error:
        if "does not exist" in error.found:
            return
        raise
    except TemporaryError:
        # Refused in words that we do not read: what is asked here is only whether it is let in.
        return
    with closing(session):
        found = read_identity(session, copy)
    raise _leads_astray(copy, f"its name there is {found.name}, though there is no database of this name")


def drop_database(connection: Connection, login: Database, name: str) -> None:
    """Given a session on the maintenance database and its login, drop a database with whoever is connected. Raise psycopg.Error.

    A subscription in it, which a dump by a superuser holds, would forbid that; it is removed first, without a word to its publisher.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
    try:
        connection.execute(statement)
    except psycopg.errors.ObjectInUse:
        _drop_subscriptions(login.model_copy(update={"name": name}))
        connection.execute(statement)


def _drop_subscriptions(login: Database) -> None:
    with closing(connect_to_copy(login, application_name="nightshift restore")) as session:
        names = session.execute(
            "SELECT s.subname FROM pg_catalog.pg_subscription AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid"
            " WHERE d.datname = pg_catalog.current_database()"
        ).fetchall()
        for (name,) in names:
            subscription = sql.Identifier(name)
            for template in (
                "ALTER SUBSCRIPTION {} DISABLE",
                "ALTER SUBSCRIPTION {} SET (slot_name = NONE)",
                "DROP SUBSCRIPTION {}",
            ):
                session.execute(sql.SQL(template).format(subscription))
