"""What a database holds, read from its catalogues within one snapshot.

All queries assume core.digest_sql.PINNED_SETTINGS and a role that may read the catalogues, which everyone may; tables' content is not read here,
sequences' state is.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import LiteralString, TypeVar

from psycopg import sql
from psycopg.rows import dict_row

from core.environment_database import Database
from core.inventory import Inventory, schemas_to_exclude
from core.manifest import Collation, Extension, Role, Statistics
from core.manifest import Sequence as SequenceState
from tasks.database_properties import read_properties
from tasks.expected_objects import read_expected
from tasks.expected_tags import read_expected_tags
from tasks.inventory_tables import Relation, read_tables
from tasks.object_facts import read_object_facts
from tasks.omissions import read_omissions
from tasks.postgres import Connection
from tasks.schema_fingerprint import schema_fingerprint

Item = TypeVar("Item")
_BATCH = 200


def read_excluded_schemas(connection: Connection, database: Database) -> tuple[str, ...]:
    """Given a session and the environment's record, return the schemas to leave out, by exact name."""
    rows = connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchall()
    return schemas_to_exclude([row[0] for row in rows], database.include_schemas, database.exclude_schemas)


def read_inventory(
    connection: Connection,
    database: Database,
    relations: Sequence[Relation],
    exclude: Sequence[str],
    *,
    in_recovery: bool,
) -> Inventory:
    """Given a session in its snapshot, the tables as seen in it and the schemas left out, return the inventory. Raise psycopg.Error."""
    tables = read_tables(connection, database, relations, in_recovery=in_recovery)
    large_objects, large_object_bytes = _read_large_objects(connection)
    entries = read_expected(connection, exclude, tables)
    return Inventory(
        tables=tables,
        sequences=_read_sequences(connection, exclude, in_recovery=in_recovery),
        extensions=_read_extensions(connection),
        collations=_read_collations(connection),
        large_object_count=large_objects,
        roles=_read_roles(connection),
        properties=read_properties(connection),
        statistics=_read_statistics(connection),
        schema_fingerprint=schema_fingerprint(connection, exclude),
        expected=(
            *entries,
            *read_expected_tags(connection, exclude, in_recovery=in_recovery),
        ),
        not_in_backup=read_omissions(connection, exclude, role_passwords=database.role_passwords),
        objects=read_object_facts(connection, exclude, entries, large_objects=large_objects),
        exclude_schemas=tuple(exclude),
        estimated_bytes=sum(table.size_bytes for table in tables) + large_object_bytes,
    )


_SEQUENCES: LiteralString = """
    SELECT n.nspname, c.relname, s.seqincrement
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_sequence AS s ON s.seqrelid = c.oid
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND NOT (%(in_recovery)s AND c.relpersistence = 'u')
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)
      AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
           OR EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE c.oid = ANY (e.extconfig)))
    ORDER BY n.nspname, c.relname
"""


def _read_sequences(connection: Connection, exclude: Sequence[str], *, in_recovery: bool) -> tuple[SequenceState, ...]:
    found = connection.execute(_SEQUENCES, {"exclude": list(exclude), "in_recovery": in_recovery}).fetchall()
    states: list[SequenceState] = []
    for batch in batches(found, _BATCH):
        query = sql.SQL(" UNION ALL ").join(
            sql.SQL("SELECT {number}::int, last_value, is_called FROM {sequence}").format(
                number=sql.Literal(number), sequence=sql.Identifier(schema_name, name)
            )
            for number, (schema_name, name, _increment) in enumerate(batch)
        )
        for number, last_value, is_called in sorted(connection.execute(query).fetchall()):
            schema_name, name, increment = batch[number]
            states.append(
                SequenceState(
                    schema_name=schema_name, name=name, last_value=last_value, is_called=is_called, increment=increment
                )
            )
    return tuple(states)


def _read_extensions(connection: Connection) -> tuple[Extension, ...]:
    rows = connection.execute(
        "SELECT e.extname, e.extversion, n.nspname FROM pg_catalog.pg_extension AS e"
        " JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace ORDER BY e.extname"
    ).fetchall()
    return tuple(Extension(name=name, version=version, schema_name=schema_name) for name, version, schema_name in rows)


# In use by a column (of a table, view, composite or index) or a domain, outside the system's schemas; the default collation is a property of the database.
_COLLATIONS: LiteralString = """
    SELECT n.nspname AS schema_name, co.collname AS name, co.collisdeterministic AS deterministic, co.collversion AS version,
           CASE co.collprovider WHEN 'c' THEN 'libc' WHEN 'i' THEN 'icu' WHEN 'b' THEN 'builtin' ELSE 'default' END AS provider
    FROM pg_catalog.pg_collation AS co JOIN pg_catalog.pg_namespace AS n ON n.oid = co.collnamespace
    WHERE co.collname NOT IN ('default', 'C', 'POSIX') AND co.oid IN (
        SELECT a.attcollation FROM pg_catalog.pg_attribute AS a WHERE a.attrelid >= 16384
        UNION SELECT t.typcollation FROM pg_catalog.pg_type AS t WHERE t.oid >= 16384)
    ORDER BY 1, 2
"""


def _read_collations(connection: Connection) -> tuple[Collation, ...]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return tuple(Collation(**row) for row in cursor.execute(_COLLATIONS))


# pg_shdepend knows owners, grantees, roles of policies and of default privileges in this database; not the bootstrap superuser (oid 10), who is pinned.
_ROLES: LiteralString = """
    WITH RECURSIVE this AS (SELECT d.oid, d.datdba FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database()),
    concerned (oid) AS (
        SELECT d.refobjid FROM pg_catalog.pg_shdepend AS d, this
        WHERE d.refclassid = 'pg_catalog.pg_authid'::regclass
          AND (d.dbid = this.oid OR (d.dbid = 0 AND d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = this.oid))
        UNION SELECT datdba FROM this
        UNION SELECT c.relowner FROM pg_catalog.pg_class AS c WHERE c.oid >= 16384
        UNION SELECT s.setrole FROM pg_catalog.pg_db_role_setting AS s, this WHERE s.setdatabase = this.oid
        UNION SELECT r.oid FROM pg_catalog.pg_db_role_setting AS s, this, pg_catalog.pg_roles AS r
        WHERE s.setdatabase = this.oid AND 'role=' || r.rolname = ANY (s.setconfig)
        UNION SELECT m.member FROM pg_catalog.pg_auth_members AS m JOIN concerned ON m.roleid = concerned.oid)
    SELECT r.rolname AS name, r.rolcanlogin AS login, r.rolsuper AS superuser
    FROM pg_catalog.pg_roles AS r WHERE r.oid IN (SELECT oid FROM concerned) AND r.rolname !~ '^pg_' ORDER BY 1
"""


def _read_roles(connection: Connection) -> tuple[Role, ...]:
    with connection.cursor(row_factory=dict_row) as cursor:
        return tuple(Role(**row) for row in cursor.execute(_ROLES))


def _read_statistics(connection: Connection) -> Statistics:
    row = connection.execute(
        "SELECT stats_reset FROM pg_catalog.pg_stat_database WHERE datname = pg_catalog.current_database()"
    ).fetchone()
    return Statistics(stats_reset=row[0] if row else None)


def _read_large_objects(connection: Connection) -> tuple[int, int]:
    """How many large objects there are, and the size of their table in bytes."""
    row = connection.execute(
        "SELECT (SELECT count(*) FROM pg_catalog.pg_largeobject_metadata),"
        " pg_catalog.pg_table_size('pg_catalog.pg_largeobject'::regclass)"
    ).fetchone()
    return (row[0], row[1] if row[0] else 0) if row else (0, 0)


def batches(items: Sequence[Item], size: int) -> Iterator[list[Item]]:
    """Given items, return lists of at most `size` of them, in order."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
