"""Making the roles that a backup's objects need and the server lacks, and taking them away again when the copy that they were made for is dropped.

A role that was there before is never touched, and one that anything depends on by now stays. Roles are the whole server's, so another restore that runs meanwhile may
count on them: each restore holds a lock on roles in share mode, and they are dropped only by who has it alone.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import LiteralString

import psycopg
from psycopg import sql

from core.database_statements import Marker, read_marker
from core.environment_database import Database
from core.errors import IntegrityError, PermanentError
from core.globals_sql import Globals, decode_globals, parse_globals
from core.manifest import Manifest
from core.redaction import register_secret
from core.role_statements import Purpose, RolePlan, plan_roles
from tasks.postgres import Connection, describe, translated
from tasks.restore_locks import lock_key, restore_key, try_lock

_NAMED_AT_MOST = 10
# Roles with power over the whole server, PostgreSQL's own (pg_read_all_data, pg_execute_server_program, …), and whoever may become one of them.
_POWERFUL: LiteralString = """
    WITH RECURSIVE powerful (oid) AS (
        SELECT r.oid FROM pg_catalog.pg_roles AS r
        WHERE r.rolsuper OR r.rolreplication OR r.rolbypassrls OR r.rolcreaterole OR r.rolname ~ '^pg_'
        UNION SELECT m.member FROM pg_catalog.pg_auth_members AS m JOIN powerful ON m.roleid = powerful.oid)
    SELECT r.rolname FROM pg_catalog.pg_roles AS r JOIN powerful ON powerful.oid = r.oid
"""
_MEMBERS_OF: LiteralString = """
    SELECT FROM pg_catalog.pg_auth_members AS m JOIN pg_catalog.pg_roles AS r ON r.oid = m.roleid JOIN pg_catalog.pg_roles AS member ON member.oid = m.member
    WHERE r.rolname = %s AND member.rolname <> ALL (%s) AND member.rolname <> CURRENT_USER
"""
_ROLES_KEY = lock_key("roles")


@dataclass(frozen=True)
class MadeRoles:
    """The roles that were made, and what is to be told."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_globals(dumped: bytes, where: str) -> Globals:
    """Given pg_dumpall's output and where it lies, return what it says. Raise IntegrityError when it cannot be read; register every password as a secret."""
    try:
        found = parse_globals(decode_globals(dumped))
    except ValueError as error:
        raise IntegrityError("read the roles of the backup", where, str(error)) from error
    for role in found.roles:
        if role.password is not None:
            register_secret(role.password)
    return found


def make_roles(
    connection: Connection,
    login: Database,
    globals_: Globals,
    manifest: Manifest,
    *,
    purpose: Purpose,
    server_major: int,
    marker: Marker,
) -> MadeRoles:
    """Given a session on the maintenance database, make what is missing, and see that the restoring role may give objects to their owners. All or none.

    A drill's roles carry its marker as their comment, so that a later drill knows what a killed one left. Raise PermanentError when a needed role is nowhere, or the
    restoring role may not make it or act for it.
    """
    on = describe(login)
    with translated("make the roles of the backup", on):
        connection.execute("SELECT pg_catalog.pg_advisory_lock_shared(%s)", (_ROLES_KEY,))
        plan = _plan(connection, on, globals_, manifest, purpose=purpose, server_major=server_major)
        is_superuser = _is_superuser(connection)
        try:
            with connection.transaction():
                notes = list(_make(connection, plan, is_superuser=is_superuser))
                if purpose == "drill":
                    _mark(connection, plan.names, marker)
                if not is_superuser:
                    _require_membership(connection, login, manifest, server_major)
        except psycopg.errors.InsufficientPrivilege as error:
            raise PermanentError(
                "make the roles of the backup",
                on,
                f"{login.user} may not: {error.diag.message_primary}; missing: {', '.join(plan.names[:_NAMED_AT_MOST])}",
                f"Make them by hand, or give {login.user} CREATEROLE (a superuser for roles with more)",
            ) from error
    return MadeRoles(plan.names, (*plan.notes, *notes))


def examine_roles(
    connection: Connection, login: Database, globals_: Globals, manifest: Manifest, *, server_major: int
) -> RolePlan:
    """Given a session on the maintenance database, return the roles that a restore would make. Nothing is changed, and no lock is taken. Raise as `make_roles`."""
    on = describe(login)
    with translated("look at the roles of the backup", on):
        plan = _plan(connection, on, globals_, manifest, purpose="restore", server_major=server_major)
        if _is_superuser(connection):
            return plan
        row = connection.execute(
            "SELECT rolcreaterole FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER"
        ).fetchone()
        if plan.names and not (row and row[0]):
            raise PermanentError(
                "make the roles of the backup",
                on,
                f"{login.user} may not make roles; missing: {', '.join(plan.names[:_NAMED_AT_MOST])}",
                f"Make them by hand, or give {login.user} CREATEROLE (a superuser for roles with more)",
            )
        _require_membership(connection, login, manifest, server_major)
    return plan


def _plan(
    connection: Connection, on: str, globals_: Globals, manifest: Manifest, *, purpose: Purpose, server_major: int
) -> RolePlan:
    existing = {name for (name,) in connection.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()}
    needed = [role.name for role in manifest.roles]
    powerful = {name for (name,) in connection.execute(_POWERFUL).fetchall()}
    plan = plan_roles(globals_, needed, existing, powerful=powerful, purpose=purpose, server_major=server_major)
    if plan.unknown:
        found = f"neither on the server nor in the backup's globals: {', '.join(plan.unknown[:_NAMED_AT_MOST])}"
        raise PermanentError("make the roles of the backup", on, found, "Make them (CREATE ROLE) and restore again")
    return plan


def _mark(connection: Connection, names: Sequence[str], marker: Marker) -> None:
    for name in names:
        connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(sql.Identifier(name), sql.Literal(marker.text)))


def remove_roles(connection: Connection, names: Sequence[str]) -> tuple[str, ...]:
    """Given a session on the maintenance database and roles that a restore made, drop those that nothing depends on; return those that stay. Raise psycopg.Error.

    All stay while another restore works on this server: it may have found them there and count on them.
    """
    # A session's own share of the lock is not in its way.
    if not names or not try_lock(connection, _ROLES_KEY):
        return tuple(names)
    try:
        return tuple(name for name in names if not _remove(connection, name, names))
    finally:
        connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (_ROLES_KEY,))


def _remove(connection: Connection, name: str, together: Sequence[str]) -> bool:
    # A DROP ROLE ends memberships without a word: one that somebody else was given since is a use like any other.
    used = connection.execute(_MEMBERS_OF, (name, list(together))).fetchone()
    if used is not None:
        return False
    try:
        connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(name)))
    except (
        psycopg.errors.DependentObjectsStillExist,
        psycopg.errors.ObjectInUse,
        psycopg.errors.InsufficientPrivilege,
    ):
        return False
    return True


def sweep_roles(connection: Connection, environment_name: str) -> tuple[str, ...]:
    """Given a session on the maintenance database, drop the roles that killed drills of this environment made, unless something depends on them; return their names.

    Raise psycopg.Error.
    """
    rows = connection.execute(
        "SELECT r.rolname, pg_catalog.shobj_description(r.oid, 'pg_authid') FROM pg_catalog.pg_roles AS r ORDER BY 1"
    ).fetchall()
    made_by: dict[str, list[str]] = defaultdict(list)
    for name, comment in rows:
        marker = read_marker(comment)
        if marker is not None and marker.nightshift == "drill" and marker.environment == environment_name:
            made_by[marker.restore_id].append(name)
    swept: list[str] = []
    for restore_id, names in made_by.items():
        # The lock of a drill that lives is held; taken here, it keeps that drill from beginning anew meanwhile.
        if try_lock(connection, restore_key(restore_id)):
            try:
                stay = remove_roles(connection, names)
            finally:
                connection.execute("SELECT pg_catalog.pg_advisory_unlock(%s)", (restore_key(restore_id),))
            swept += [name for name in names if name not in stay]
    return tuple(swept)


def _is_superuser(connection: Connection) -> bool:
    row = connection.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER").fetchone()
    return row is not None and bool(row[0])


def _make(connection: Connection, plan: RolePlan, *, is_superuser: bool) -> Iterator[str]:
    for statement in plan.create:
        connection.execute(statement.encode())
    if not is_superuser:
        # Who is no member of an owner can neither give it objects nor read them afterwards.
        for name in plan.names:
            connection.execute(sql.SQL("GRANT {} TO CURRENT_USER").format(sql.Identifier(name)))
            yield f"the restoring role was made a member of {name}, to give it what it owns"
    for statement in plan.configure:
        try:
            with connection.transaction():
                connection.execute(statement.encode())
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            yield f"not done: {statement}: {error.diag.message_primary}"


def _require_membership(connection: Connection, login: Database, manifest: Manifest, server_major: int) -> None:
    owners = sorted({manifest.properties.owner, *(table.owner for table in manifest.tables)})
    # From 16 on a membership may come without the right to become the role (manual, pg_has_role).
    how = "SET" if server_major >= 16 else "MEMBER"
    missing = connection.execute(
        "SELECT r.rolname FROM pg_catalog.pg_roles AS r WHERE r.rolname = ANY (%s)"
        " AND NOT pg_catalog.pg_has_role(r.oid, %s) ORDER BY 1",
        (owners, how),
    ).fetchall()
    if missing:
        names = ", ".join(name for (name,) in missing[:_NAMED_AT_MOST])
        raise PermanentError(
            "restore what other roles own",
            describe(login),
            f"{login.user} is no superuser and no member of: {names}",
            f"GRANT these roles TO {login.user}, or restore as a superuser",
        )
