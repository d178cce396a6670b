"""What the database itself is: its properties for CREATE DATABASE, and the server it lives on."""

from typing import Any, LiteralString

from psycopg.rows import dict_row

from core.environment_database import Database
from core.manifest import DatabaseProperties, DatabaseSetting, Server
from tasks.postgres import Connection

_PROVIDERS = {"c": "libc", "i": "icu", "b": "builtin", "d": "default"}
UNKNOWN = "unknown"

# As JSON, since the columns differ by major: datlocprovider and datcollversion came with 15, daticurules with 16, datlocale (before: daticulocale) with 17.
_DATABASE: LiteralString = """
    SELECT pg_catalog.to_jsonb(d) AS columns, pg_catalog.pg_get_userbyid(d.datdba) AS owner,
           pg_catalog.pg_encoding_to_char(d.encoding) AS encoding, t.spcname AS tablespace, d.datacl::text[] AS acl,
           pg_catalog.shobj_description(d.oid, 'pg_database') AS comment
    FROM pg_catalog.pg_database AS d JOIN pg_catalog.pg_tablespace AS t ON t.oid = d.dattablespace
    WHERE d.datname = pg_catalog.current_database()
"""
_SETTINGS: LiteralString = """
    SELECT coalesce(r.rolname, '') AS role, pg_catalog.split_part(item, '=', 1) AS name,
           pg_catalog.substr(item, pg_catalog.strpos(item, '=') + 1) AS value
    FROM pg_catalog.pg_db_role_setting AS s JOIN pg_catalog.pg_database AS d ON d.oid = s.setdatabase
    LEFT JOIN pg_catalog.pg_roles AS r ON r.oid = s.setrole CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) AS item
    WHERE d.datname = pg_catalog.current_database() ORDER BY 1, 2
"""
# Settings that explain how fast this server was and what its data depends on.
_SERVER_SETTINGS = (
    "block_size",
    "data_checksums",
    "max_connections",
    "max_locks_per_transaction",
    "server_encoding",
    "shared_buffers",
    "wal_level",
)


def read_properties(connection: Connection) -> DatabaseProperties:
    """Given a session, return the properties of its database. Raise psycopg.Error."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(_DATABASE).fetchone()
        settings = cursor.execute(_SETTINGS).fetchall()
    assert row is not None  # noqa: S101 - for the type checker: a session's database is in pg_database
    columns: dict[str, Any] = row["columns"]
    return DatabaseProperties(
        owner=row["owner"],
        encoding=row["encoding"],
        collate=columns["datcollate"],
        ctype=columns["datctype"],
        provider=_PROVIDERS.get(columns.get("datlocprovider", "c"), UNKNOWN),
        locale=columns.get("datlocale", columns.get("daticulocale")),
        icu_rules=columns.get("daticurules"),
        collation_version=columns.get("datcollversion"),
        connection_limit=columns["datconnlimit"],
        is_template=columns["datistemplate"],
        allow_connections=columns["datallowconn"],
        tablespace=row["tablespace"],
        acl=None if row["acl"] is None else tuple(row["acl"]),
        comment=row["comment"],
        settings=tuple(DatabaseSetting(**setting) for setting in settings),
    )


def read_server(connection: Connection, database: Database) -> Server:
    """Given a session, return the server's record, with the write-ahead log's position now. Raise psycopg.Error.

    Where the role may not execute pg_control_system(), the system identifier is `unknown`; likewise the timeline is 0.
    """
    row = connection.execute(
        "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num')::int,"
        " pg_catalog.pg_is_in_recovery(), (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),"
        " pg_catalog.current_database()"
    ).fetchone()
    assert row is not None  # noqa: S101 - for the type checker: a SELECT without FROM has one row
    version, version_number, in_recovery, database_oid, database_name = row
    timeline, lsn = _read_position(connection, in_recovery=in_recovery)
    settings = connection.execute(
        "SELECT name, pg_catalog.current_setting(name) FROM pg_catalog.pg_settings WHERE name = ANY (%s) ORDER BY name",
        (list(_SERVER_SETTINGS),),
    ).fetchall()
    return Server(
        version=version,
        version_number=version_number,
        system_identifier=_read_system_identifier(connection),
        database_oid=database_oid,
        database_name=database_name,
        host=database.host,
        port=database.port,
        timeline=timeline,
        lsn=lsn,
        in_recovery=in_recovery,
        settings=dict(settings),
    )


def _may_execute(connection: Connection, signature: str) -> bool:
    row = connection.execute("SELECT pg_catalog.has_function_privilege(%s, 'EXECUTE')", (signature,)).fetchone()
    return row is not None and bool(row[0])


def _read_system_identifier(connection: Connection) -> str:
    if not _may_execute(connection, "pg_catalog.pg_control_system()"):
        return UNKNOWN
    row = connection.execute("SELECT system_identifier::text FROM pg_catalog.pg_control_system()").fetchone()
    return row[0] if row else UNKNOWN


def _read_position(connection: Connection, *, in_recovery: bool) -> tuple[int, str]:
    """Timeline and log position. On a primary the timeline is in the file name (the control file lags behind a promotion); a standby refuses that function."""
    if not in_recovery:
        row = connection.execute(
            "SELECT ('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(lsn), 1, 8))::bit(32)::int, lsn::text"
            " FROM (SELECT pg_catalog.pg_current_wal_lsn() AS lsn) AS position"
        ).fetchone()
        return (row[0], row[1]) if row else (0, "0/0")
    row = connection.execute("SELECT coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::text").fetchone()
    lsn = row[0] if row else "0/0"
    if not _may_execute(connection, "pg_catalog.pg_control_checkpoint()"):
        return 0, lsn
    row = connection.execute("SELECT timeline_id FROM pg_catalog.pg_control_checkpoint()").fetchone()
    return (row[0] if row else 0), lsn
