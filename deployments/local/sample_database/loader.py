"""Makes the sample database on a server. Only adds: a database or role that is there already and is not the sample's own makes it refuse."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.redaction import register_secret
from deployments.local.sample_database.scripts import ROLES, Script, read_scripts

OWNER_ROLE = "platform_owner"
BACKUP_ROLE = "nightshift_backup"
OLDEST_MAJOR = 14
# The comment of each role of roles.sql begins so; the loader touches no role without it.
MARK = "nightshift sample: "
ROLE_NAMES = (
    OWNER_ROLE,
    "platform_admin",
    "platform_reader",
    "platform_writer",
    "platform_api",
    "platform_reporting",
    "Platform Ops",
    BACKUP_ROLE,
)

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True)
class LeftOut:
    """A feature that is not in this sample, and why."""

    feature: str
    reason: str


@dataclass(frozen=True)
class SampleInfo:
    """A sample as it was made. `rows` is the number of users; the plain dump is about 1.4 kB for each."""

    database: str
    owner: str
    backup_role: str
    rows: int
    features: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def load_sample(
    admin_conninfo: str,
    *,
    rows: int,
    backup_password: str,
    database: str = "platform",
    seed: int = 42,
    portable: bool = False,
) -> SampleInfo:
    """Given a superuser's connection string and a number of users, make the sample database and return what is in it.

    The same rows, seed and server give the same data. The roles are made once for a cluster; a further sample of another name shares them, and the
    backup role takes the password given last. `portable` leaves out what other builds may lack (contrib extensions, ICU, libxml, lz4), so that any
    server of the same or a newer major can restore the dump. A load that fails leaves no database behind.

    Raises ConfigurationError (rows, password, seed, not a superuser, server older than 14), PermanentError (the database is there, a role of the same
    name is not the sample's, a statement failed) or TemporaryError (no connection).
    """
    _check_arguments(rows, seed, backup_password)
    register_secret(backup_password)
    with _errors_wrapped(admin_conninfo, database), _connect(admin_conninfo) as admin:
        _check_server(admin, database)
        _make_roles(admin, backup_password)
        _create_database(admin, database)
        try:
            return _fill(make_conninfo(admin_conninfo, dbname=database), database, rows, seed, portable)
        except BaseException:
            # Made a moment ago by ourselves; half of it would be taken for the whole.
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(database)))
            raise


def _check_arguments(rows: int, seed: int, backup_password: str) -> None:
    found = ""
    if rows < 1:
        found = f"rows is {rows}, it must be at least 1"
    elif abs(seed) >= 2**31:
        found = f"seed is {seed}, it must be within 32 bits"
    elif not backup_password:
        found = f"the password for {BACKUP_ROLE} is empty"
    if found:
        raise ConfigurationError("make the sample database", "its parameters", found)


def _connect(conninfo: str) -> Connection:
    return psycopg.connect(
        conninfo, autocommit=True, prepare_threshold=None, connect_timeout=10, application_name="nightshift sample"
    )


def _check_server(admin: Connection, database: str) -> None:
    attempted, on = "make the sample database", f"{database} at {admin.info.host}:{admin.info.port}"
    row = admin.execute("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if row is None or not row[0]:
        raise ConfigurationError(
            attempted,
            on,
            f"{admin.info.user} is not a superuser",
            "Give the connection string of one: event triggers and BYPASSRLS need it",
        )
    if admin.info.server_version < OLDEST_MAJOR * 10000:
        raise ConfigurationError(
            attempted, on, f"the server is version {admin.info.server_version}", f"Use {OLDEST_MAJOR} or newer"
        )
    if admin.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", [database]).rowcount:
        raise _exists_already(attempted, on)


def _exists_already(attempted: str, on: str) -> PermanentError:
    return PermanentError(
        attempted,
        on,
        "a database of this name is there already, and nothing was changed",
        "Choose another name, or drop it yourself first",
    )


def _make_roles(admin: Connection, backup_password: str) -> None:
    found = admin.execute(
        "SELECT rolname, coalesce(pg_catalog.shobj_description(oid, 'pg_authid'), '') FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)",
        [list(ROLE_NAMES)],
    ).fetchall()
    foreign = sorted(name for name, comment in found if not comment.startswith(MARK))
    if foreign or 0 < len(found) < len(ROLE_NAMES):
        missing = sorted(set(ROLE_NAMES) - {name for name, _ in found})
        raise PermanentError(
            "make the sample's roles",
            f"server at {admin.info.host}:{admin.info.port}",
            f"{', '.join(foreign)} there already and not the sample's"
            if foreign
            else f"only a part of them is there, without {', '.join(missing)}",
            "Nothing was changed; use another server",
        )
    with admin.transaction():
        if not found:
            admin.execute(ROLES.read_bytes())
        # The verifier, not the password: the statement may stand in the server's log.
        verifier = admin.pgconn.encrypt_password(backup_password.encode(), BACKUP_ROLE.encode(), b"scram-sha-256")
        admin.execute(
            sql.SQL("ALTER ROLE {} PASSWORD {}").format(sql.Identifier(BACKUP_ROLE), sql.Literal(verifier.decode()))
        )


def _create_database(admin: Connection, database: str) -> None:
    row = admin.execute(
        "SELECT pg_catalog.pg_encoding_to_char(encoding) FROM pg_catalog.pg_database WHERE datname = 'template0'"
    ).fetchone()
    # A cluster of another encoding has a locale that does not go with UTF8.
    locale = sql.SQL("" if row == ("UTF8",) else " LOCALE 'C'")
    try:
        admin.execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE template0 ENCODING 'UTF8'{}").format(
                sql.Identifier(database), sql.Identifier(OWNER_ROLE), locale
            )
        )
    except psycopg.errors.DuplicateDatabase as error:
        raise _exists_already("make the sample database", database) from error


def _fill(conninfo: str, database: str, rows: int, seed: int, portable: bool) -> SampleInfo:
    features: list[str] = []
    left_out: list[LeftOut] = []
    with _connect(conninfo) as connection:
        _pin_session(connection, rows, seed)
        for script in read_scripts():
            reason = _why_not(script, connection.info.server_version // 10000, portable) or _run(connection, script)
            if reason:
                left_out.extend(LeftOut(feature, reason) for feature in script.features)
            else:
                features.extend(script.features)
        # Otherwise the first dump and autovacuum share this work, and no two measurements are alike.
        connection.execute("VACUUM (ANALYZE)")
    return SampleInfo(database, OWNER_ROLE, BACKUP_ROLE, rows, tuple(features), tuple(left_out))


def _pin_session(connection: Connection, rows: int, seed: int) -> None:
    """Make the session's settings the sample's own: what the server has set must not change the data."""
    settings = {
        "sample.rows": str(rows),
        "sample.seed": str(seed),
        "search_path": "pg_catalog",
        "DateStyle": "ISO, YMD",
        "IntervalStyle": "postgres",
        "TimeZone": "UTC",
        "lc_monetary": "C",
        "standard_conforming_strings": "on",
        "check_function_bodies": "on",
        "default_transaction_read_only": "off",
        "statement_timeout": "0",
        "lock_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "synchronous_commit": "off",
        "jit": "off",
        "client_min_messages": "error",
        "maintenance_work_mem": "256MB",
        "work_mem": "64MB",
    }
    for name, value in settings.items():
        connection.execute("SELECT pg_catalog.set_config(%s, %s, false)", [name, value])


def _why_not(script: Script, major: int, portable: bool) -> str:
    if script.version > major:
        return f"needs PostgreSQL {script.version}, this is {major}"
    if portable and script.bound_to_build:
        return f"left out of a portable sample: needs {script.needs}, which another build may lack"
    return ""


def _run(connection: Connection, script: Script) -> str:
    """Run a file as the owner; return why it could not be when the build lacks what it needs. Nothing of it remains then."""
    try:
        with connection.transaction():
            connection.execute(sql.SQL("SET LOCAL ROLE {}").format(sql.Identifier(OWNER_ROLE)))
            connection.execute(script.body)
            connection.execute("RESET ROLE")
    except (psycopg.errors.FeatureNotSupported, psycopg.errors.UndefinedFile) as error:
        if not script.bound_to_build:
            raise _script_failed(script, error) from error
        return f"needs {script.needs}: {error.diag.message_primary}"
    except psycopg.Error as error:
        if connection.broken:
            raise
        raise _script_failed(script, error) from error
    return ""


def _script_failed(script: Script, error: psycopg.Error) -> PermanentError:
    where = f", line {_line_of(script, error)}" if error.diag.statement_position else ""
    found = f"{error.sqlstate}: {error.diag.message_primary or error}"
    return PermanentError("make the sample database", f"{script.name}.sql{where}", found)


def _line_of(script: Script, error: psycopg.Error) -> int:
    return script.body.decode()[: int(error.diag.statement_position or 0)].count("\n") + 1


@contextmanager
def _errors_wrapped(conninfo: str, database: str) -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        if error.sqlstate is not None and not error.sqlstate.startswith(("08", "57P")):
            # The primary message only: the rest quotes the statement, which may be as long as a file.
            raise PermanentError(
                "make the sample database", database, f"{error.sqlstate}: {error.diag.message_primary}"
            ) from error
        given = conninfo_to_dict(conninfo)
        on = f"{database} at {given.get('host', 'the default host')}:{given.get('port', 5432)}"
        raise TemporaryError("make the sample database", on, str(error), "Is the server running?") from error
