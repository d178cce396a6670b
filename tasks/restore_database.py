"""Making the new database as the source is, and giving it its name in the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import psycopg
from psycopg import sql

from core.database_statements import (
    comment_on_database,
    connection_limit,
    create_database,
    grant_statements,
    marker_of,
    name_problem,
    parse_acl,
    set_in_database,
    split_settings,
)
from core.environment import Environment
from core.environment_database import Database
from core.errors import ConfigurationError, PermanentError
from core.manifest import DatabaseProperties, DatabaseSetting, Manifest
from core.restore_record import refused_setting
from tasks.postgres import Connection, describe, translated
from tasks.restore_target import Identity, refuse_sources, verify_copy

# The server is lost or out of something: no word on the statement itself.
_SERVER_TROUBLE = ("08", "53", "57", "58")


@dataclass(frozen=True)
class Created:
    """The new, empty database, and what is to be told of it."""

    identity: Identity
    notes: tuple[str, ...]


def make_database(
    session: Connection,
    login: Database,
    copy: Database,
    environment: Environment,
    manifest: Manifest,
    *,
    purpose: Literal["restore", "drill"],
    restore_id: str,
    begun: datetime,
    server_major: int,
) -> Created:
    """Given the session with the locks and the login that the copy is to have, make the database, mark it, and prove that the login leads to it and to no source.

    Raise PermanentError when the server cannot make it (a locale that it lacks), or the login leads elsewhere.
    """
    properties = manifest.properties
    marker = marker_of(purpose, environment.name, restore_id, manifest.backup_id, begun)
    with translated("make the new database", f"{copy.name} on {login.host}:{login.port}"):
        _create(session, copy, properties, server_major)
        session.execute(comment_on_database(copy.name, marker.text).encode())
        row = session.execute(
            "SELECT oid::int8 FROM pg_catalog.pg_database WHERE datname = %s", (copy.name,)
        ).fetchone()
    identity = verify_copy(session, login, copy, row[0] if row else 0)
    notes = refuse_sources(identity, copy, environment, manifest)
    before, _afterwards = split_settings(properties.settings)
    return Created(identity, (*notes, *_set(session, copy, before)))


def complete_database(
    session: Connection, login: Database, name: str, properties: DatabaseProperties
) -> tuple[str, ...]:
    """Given the restored database, give it what would have been in the restore's way: privileges, the connection limit and the remaining settings. Return notes."""
    copy = login.model_copy(update={"name": name})
    _before, afterwards = split_settings(properties.settings)
    with translated("give the new database the source's privileges", describe(copy)):
        notes = [*_grant(session, name, properties)]
        if limit := connection_limit(name, properties):
            session.execute(limit.encode())
    return (*notes, *_set(session, copy, afterwards))


def finish_database(
    session: Connection, login: Database, temporary: str, name: str, properties: DatabaseProperties
) -> None:
    """Given the verified copy, give it the source's comment and its name, in one transaction.

    Raise ConfigurationError for a name that cannot be had, PermanentError when it is taken.
    """
    if problem := name_problem(name):
        raise ConfigurationError("restore under the name", repr(name), problem, "Choose another name")
    on = f"{name} on {login.host}:{login.port}"
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(temporary), sql.Identifier(name))
    template = sql.SQL("ALTER DATABASE {} IS_TEMPLATE true").format(sql.Identifier(name))
    with translated("give the restored database its name", on):
        try:
            with session.transaction():
                session.execute(comment_on_database(temporary, properties.comment).encode())
                session.execute(rename)
                if properties.is_template:
                    session.execute(template)
        except psycopg.errors.DuplicateDatabase as error:
            raise PermanentError(
                "give the restored database its name",
                on,
                "a database of this name was made meanwhile, and none is ever overwritten",
                "Choose another name",
            ) from error


def _create(session: Connection, copy: Database, properties: DatabaseProperties, server_major: int) -> None:
    try:
        session.execute(create_database(copy.name, properties, server_major=server_major).encode())
    except ValueError as error:
        raise PermanentError("make the new database", describe(copy), str(error), "Use another server") from error
    except (
        psycopg.errors.FeatureNotSupported,
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.WrongObjectType,
        psycopg.errors.UndefinedObject,
        psycopg.errors.InvalidObjectDefinition,
    ) as error:
        locale = f"provider {properties.provider}, {properties.locale or properties.collate}, {properties.encoding}"
        raise PermanentError(
            "make the new database",
            describe(copy),
            f"{error.diag.message_primary} (the source has {locale})",
            "Use a server that has this locale, or install it there",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise PermanentError(
            "make the new database",
            describe(copy),
            f"{error.diag.message_primary} (its owner is {properties.owner})",
            f"GRANT that role TO {copy.user}, or restore as a superuser",
        ) from error


def _set(session: Connection, copy: Database, settings: Sequence[DatabaseSetting]) -> list[str]:
    """Set what the source has set. What the server refuses (a parameter that it does not know, or only a superuser may set) is a note."""
    notes = []
    for setting in settings:
        refused = refused_setting(setting.role, setting.name)
        try:
            session.execute(set_in_database(copy.name, setting).encode())
        except ValueError as error:
            notes.append(f"{refused}{error}")
        except psycopg.Error as error:
            if not error.sqlstate or error.sqlstate.startswith(_SERVER_TROUBLE):
                with translated("give the new database the source's settings", describe(copy)):
                    raise
            notes.append(f"{refused}{error.diag.message_primary}")
    return notes


def _grant(session: Connection, name: str, properties: DatabaseProperties) -> Iterator[str]:
    try:
        statements = grant_statements(name, properties)
        others = {grant.grantor for grant in parse_acl(properties.acl or ())} - {properties.owner}
    except ValueError as error:
        yield f"the privileges of the database were not given: {error}"
        return
    if others:
        yield f"privileges on the database that {', '.join(sorted(others))} had granted are now granted by its owner"
    try:
        with session.transaction():
            for statement in statements:
                session.execute(statement.encode())
    except psycopg.errors.UndefinedObject as error:
        yield f"the privileges of the database were not given: {error.diag.message_primary}"
