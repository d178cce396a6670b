"""What belongs to a database or its server and is not in a backup by pg_dump, so that nobody finds out at the restore."""

from collections.abc import Sequence
from typing import LiteralString

from core.manifest import Omission
from tasks.postgres import Connection

_ALWAYS = (
    Omission(
        kind="configuration",
        name="postgresql.conf, pg_hba.conf, ALTER SYSTEM",
        why="settings of the server are not part of a dump",
    ),
    Omission(kind="statistics", name="planner statistics", why="a restore runs ANALYZE instead"),
)
_PASSWORDS = Omission(
    kind="passwords", name="all roles", why="left out unless role_passwords is set in the environment file"
)
# Each gives the name and, if it tells more than the kind does, the reason.
_NAMED: tuple[tuple[str, LiteralString, str], ...] = (
    (
        "rows of a foreign table",
        """SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'f' AND n.nspname <> ALL (%(exclude)s) ORDER BY 1""",
        "they are on another server; the definition is in the dump",
    ),
    (
        "rows of a materialized view",
        """SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind = 'm' AND n.nspname <> ALL (%(exclude)s) ORDER BY 1""",
        "a restore computes them again",
    ),
    (
        "rows of an unlogged table",
        """SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE pg_catalog.pg_is_in_recovery() AND c.relkind = 'r' AND c.relpersistence = 'u' AND n.nspname <> ALL (%(exclude)s) ORDER BY 1""",
        "a standby has none; back up the primary to have them",
    ),
    (
        "invalid index",
        """SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
        JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
        WHERE NOT (i.indisready AND (i.indisvalid OR t.relkind = 'p')) AND n.nspname <> ALL (%(exclude)s) ORDER BY 1""",
        "a CREATE INDEX CONCURRENTLY that failed left it behind; it is of no use",
    ),
    (
        "temporary table",
        """SELECT n.nspname || '.' || c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 't' ORDER BY 1""",
        "it lives only as long as its session",
    ),
    (
        "extension's own objects",
        "SELECT e.extname || ' ' || e.extversion FROM pg_catalog.pg_extension AS e WHERE e.oid >= 16384 ORDER BY 1",
        "they come with CREATE EXTENSION; the restoring server must have it",
    ),
    (
        "object in a system schema",
        """SELECT o.kind || ' ' || n.nspname || '.' || o.name FROM (
            SELECT 'relation' AS kind, c.relname AS name, c.relnamespace AS namespace, c.oid, 'pg_catalog.pg_class'::regclass AS class
            FROM pg_catalog.pg_class AS c WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't'
            UNION ALL SELECT 'function', p.proname, p.pronamespace, p.oid, 'pg_catalog.pg_proc'::regclass FROM pg_catalog.pg_proc AS p) AS o
        JOIN pg_catalog.pg_namespace AS n ON n.oid = o.namespace
        WHERE o.oid >= 16384 AND (n.nspname IN ('pg_catalog', 'information_schema'))
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e') ORDER BY 1""",
        "pg_dump leaves pg_catalog and information_schema alone; make it in a schema of your own",
    ),
    (
        "tablespace's folder",
        "SELECT t.spcname FROM pg_catalog.pg_tablespace AS t WHERE t.spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1",
        "only its definition is in the globals",
    ),
    (
        "prepared transaction",
        "SELECT p.gid FROM pg_catalog.pg_prepared_xacts AS p WHERE p.database = pg_catalog.current_database() ORDER BY 1",
        "it was not committed when the snapshot was taken",
    ),
    (
        "replication slot",
        "SELECT s.slot_name FROM pg_catalog.pg_replication_slots AS s WHERE s.database = pg_catalog.current_database() ORDER BY 1",
        "slots are not part of a dump",
    ),
    (
        "other database",
        """SELECT d.datname FROM pg_catalog.pg_database AS d
        WHERE d.datname <> pg_catalog.current_database() AND NOT d.datistemplate ORDER BY 1""",
        "each database needs a backup of its own",
    ),
)
_SUBSCRIPTIONS: LiteralString = """
    SELECT s.subname, u.rolsuper FROM pg_catalog.pg_subscription AS s
    JOIN pg_catalog.pg_database AS d ON d.oid = s.subdbid AND d.datname = pg_catalog.current_database()
    JOIN pg_catalog.pg_roles AS u ON u.rolname = current_user ORDER BY 1
"""
# What pg_user_mappings hides (system_views.sql) pg_dump, which reads that view, leaves out without a word: a mapping then has no OPTIONS.
_HIDDEN_MAPPINGS: LiteralString = """
    SELECT 'of ' || m.usename || ' on server ' || m.srvname FROM pg_catalog.pg_user_mappings AS m
    JOIN pg_catalog.pg_foreign_server AS s ON s.oid = m.srvid JOIN pg_catalog.pg_roles AS me ON me.rolname = current_user
    WHERE NOT me.rolsuper AND NOT CASE WHEN m.umuser = 0 THEN pg_catalog.pg_has_role(s.srvowner, 'USAGE')
        ELSE m.umuser = me.oid AND (pg_catalog.pg_has_role(s.srvowner, 'USAGE') OR pg_catalog.has_server_privilege(s.oid, 'USAGE')) END
"""
# The table itself, which pg_read_all_data may read, tells which of them have any.
_MAPPINGS_READABLE: LiteralString = "SELECT pg_catalog.has_table_privilege('pg_catalog.pg_user_mapping', 'SELECT')"
_WITH_OPTIONS: LiteralString = (
    "AND EXISTS (SELECT FROM pg_catalog.pg_user_mapping AS u WHERE u.oid = m.umid AND u.umoptions IS NOT NULL)"
)


def read_omissions(connection: Connection, exclude: Sequence[str], *, role_passwords: bool) -> tuple[Omission, ...]:
    """Given a session in its snapshot and the schemas left out, return what the database or its server has and the backup has not, by name, and why."""
    found = [Omission(kind="schema", name=name, why="left out by the environment file") for name in exclude]
    for kind, query, why in _NAMED:
        rows = connection.execute(query, {"exclude": list(exclude)}).fetchall()
        found += [Omission(kind=kind, name=row[0], why=why) for row in rows]
    for name, superuser in connection.execute(_SUBSCRIPTIONS):
        why = "restored without being connected" if superuser else "only a superuser's dump has subscriptions"
        found.append(Omission(kind="subscription", name=name, why=why))
    found += _user_mappings(connection)
    if not role_passwords:
        found.append(_PASSWORDS)
    return (*found, *_ALWAYS)


def _user_mappings(connection: Connection) -> list[Omission]:
    known = connection.execute(_MAPPINGS_READABLE).fetchone() == (True,)
    why = "the server shows them (a password, mostly) to pg_dump of a superuser only" + (
        "" if known else ", if there are any"
    )
    rows = connection.execute(f"{_HIDDEN_MAPPINGS}{_WITH_OPTIONS if known else ''} ORDER BY 1").fetchall()
    return [Omission(kind="options of a user mapping", name=row[0], why=why) for row in rows]
