"""What a database holds, read from its catalogues within one snapshot.

All queries assume core.digest_sql.PINNED_SETTINGS and a role that may read the catalogues, which everyone may; tables' content is not read here,
sequences' state is.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, LiteralString, TypeVar

from psycopg import sql
from psycopg.rows import dict_row

from core.digest_sql import hashed_natively, table_digest_sql
from core.environment_database import Database
from core.inventory import Inventory, TableDraft, digest_mode, schemas_to_exclude
from core.manifest import Collation, Column, Extension, Role, Statistics
from core.manifest import Sequence as SequenceState
from tasks.database_properties import read_properties
from tasks.expected_objects import read_expected
from tasks.expected_tags import read_expected_tags
from tasks.object_facts import read_object_facts
from tasks.omissions import read_omissions
from tasks.postgres import Connection
from tasks.schema_fingerprint import schema_fingerprint

Item = TypeVar("Item")
_BATCH = 200


@dataclass(frozen=True, order=True)
class Relation:
    """A plain (`r`) or partitioned (`p`) table that pg_dump dumps. `filenode` is 0 for partitioned ones and changes when a table is rewritten or truncated."""

    oid: int
    schema_name: str
    name: str
    kind: str
    filenode: int


@dataclass(frozen=True)
class _Route:
    """The partitioned table through which a restore loads a partition, as (schema, name), and the order of its columns."""

    table: tuple[str, str]
    order: list[str]


# Extension members are made by CREATE EXTENSION; only the data of those in extconfig is dumped.
_RELATIONS: LiteralString = """
    SELECT c.oid, n.nspname, c.relname, c.relkind::text, c.relfilenode
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
      AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)
      AND (NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d
                       WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
           OR EXISTS (SELECT FROM pg_catalog.pg_extension AS e WHERE c.oid = ANY (e.extconfig)))
    ORDER BY c.oid
"""


def read_excluded_schemas(connection: Connection, database: Database) -> tuple[str, ...]:
    """Given a session and the environment's record, return the schemas to leave out, by exact name."""
    rows = connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
    ).fetchall()
    return schemas_to_exclude([row[0] for row in rows], database.include_schemas, database.exclude_schemas)


def read_relations(connection: Connection, exclude: Sequence[str]) -> tuple[Relation, ...]:
    """Given a session and the schemas left out, return the tables that pg_dump dumps, in the order of their oids."""
    rows = connection.execute(_RELATIONS, {"exclude": list(exclude)}).fetchall()
    return tuple(Relation(*row) for row in rows)


def read_inventory(
    connection: Connection,
    database: Database,
    relations: Sequence[Relation],
    exclude: Sequence[str],
    *,
    in_recovery: bool,
) -> Inventory:
    """Given a session in its snapshot, the tables as seen in it and the schemas left out, return the inventory. Raise psycopg.Error."""
    tables = _read_tables(connection, database, relations, in_recovery=in_recovery)
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


# A virtual generated column (18) holds no data; pg_dump does not read it either. own_cast: types whose cast to text is not their output function, be it a function
# that a user made, or a reading of the bytes as they are (xml keeps a declaration that its output function, and so a dump, leaves out).
_COLUMNS: LiteralString = """
    WITH RECURSIVE own_cast (type) AS (
        SELECT k.castsource FROM pg_catalog.pg_cast AS k JOIN pg_catalog.pg_type AS t ON t.oid = k.castsource
        WHERE k.casttarget = 'pg_catalog.text'::regtype
          AND (k.castfunc >= 16384 OR (k.castmethod = 'b' AND t.typoutput NOT IN ('textout'::regproc, 'varcharout'::regproc)))
        UNION SELECT t.oid FROM pg_catalog.pg_type AS t JOIN own_cast ON t.typbasetype = own_cast.type AND t.typtype = 'd')
    SELECT a.attrelid AS relation, a.attname AS name, pg_catalog.format_type(a.atttypid, a.atttypmod) AS type, a.atttypid AS type_oid,
           coalesce(co.collisdeterministic, true) AS deterministic, a.atttypid IN (SELECT type FROM own_cast) AS plain_output
    FROM pg_catalog.pg_attribute AS a LEFT JOIN pg_catalog.pg_collation AS co ON co.oid = a.attcollation
    WHERE a.attrelid = ANY (%s) AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v'
    ORDER BY a.attrelid, a.attnum
"""
# The topmost table of a partition tree in which a table above this one is partitioned by hash over an enum (as getPartitioningInfo and
# forcePartitionRootLoad in pg_dump.c say), and that table's columns in its own order.
_ROUTED: LiteralString = """
    WITH RECURSIVE unsafe AS (
        SELECT p.partrelid FROM pg_catalog.pg_partitioned_table AS p WHERE (
            SELECT o.oid FROM pg_catalog.pg_opclass AS o JOIN pg_catalog.pg_am AS a ON a.oid = o.opcmethod
            WHERE o.opcname = 'enum_ops' AND o.opcnamespace = 'pg_catalog'::regnamespace AND a.amname = 'hash') = ANY (p.partclass)),
    above (leaf, ancestor) AS (
        SELECT i.inhrelid, i.inhparent FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
        WHERE c.relispartition AND c.oid = ANY (%s)
        UNION ALL SELECT above.leaf, i.inhparent FROM above JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = above.ancestor)
    SELECT above.leaf, n.nspname, c.relname,
           ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute AS a
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
    FROM above JOIN pg_catalog.pg_class AS c ON c.oid = above.ancestor JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT c.relispartition
      AND EXISTS (SELECT FROM above AS other JOIN unsafe ON unsafe.partrelid = other.ancestor WHERE other.leaf = above.leaf)
"""
_TABLES: LiteralString = """
    SELECT c.oid, c.relpersistence::text AS persistence, pg_catalog.pg_get_userbyid(c.relowner) AS owner,
           coalesce(pg_catalog.pg_table_size(c.oid), 0) AS size_bytes,
           coalesce((SELECT e.extcondition[pg_catalog.array_position(e.extconfig, c.oid)] FROM pg_catalog.pg_extension AS e
                     WHERE c.oid = ANY (e.extconfig)), '') AS condition,
           pg_catalog.pg_stat_get_tuples_inserted(c.oid) AS inserted, pg_catalog.pg_stat_get_tuples_updated(c.oid) AS updated,
           pg_catalog.pg_stat_get_tuples_deleted(c.oid) AS deleted
    FROM pg_catalog.pg_class AS c WHERE c.oid = ANY (%s)
"""


def _read_tables(
    connection: Connection, database: Database, relations: Sequence[Relation], *, in_recovery: bool
) -> tuple[TableDraft, ...]:
    plain = {relation.oid: relation for relation in relations if relation.kind == "r"}
    columns: dict[int, list[dict[str, Any]]] = defaultdict(list)
    with connection.cursor(row_factory=dict_row) as cursor:
        for column in cursor.execute(_COLUMNS, (list(plain),)):
            columns[column["relation"]].append(column)
        facts = cursor.execute(_TABLES, (list(plain),)).fetchall()
    routes = {
        leaf: _Route((schema_name, name), order)
        for leaf, schema_name, name, order in connection.execute(_ROUTED, (list(plain),))
    }
    # A standby has no content for unlogged tables, and pg_dump leaves it out there.
    return tuple(
        _draft(database, plain[fact["oid"]], columns[fact["oid"]], fact, routes.get(fact["oid"]))
        for fact in sorted(facts, key=lambda fact: plain[fact["oid"]].oid)
        if not (in_recovery and fact["persistence"] == "u")
    )


def _draft(
    database: Database,
    relation: Relation,
    described: Sequence[dict[str, Any]],
    fact: dict[str, Any],
    route: _Route | None,
) -> TableDraft:
    if route is not None:
        # Rows may come back in another partition, whose columns may stand in another order: that of the partitioned table is common to all.
        described = sorted(described, key=lambda column: route.order.index(column["name"]))
    columns = tuple(
        Column(
            name=column["name"],
            type=column["type"],
            hashed_as="native"
            if hashed_natively(column["type_oid"], deterministic=column["deterministic"])
            else "text",
        )
        for column in described
    )
    mode = digest_mode(f"{relation.schema_name}.{relation.name}", database.digests, database.digest_rules)
    plain_output = frozenset(column["name"] for column in described if column["plain_output"])
    query = table_digest_sql(
        relation.schema_name, relation.name, columns, condition=fact["condition"], plain_output=plain_output
    )
    return TableDraft(
        oid=relation.oid,
        schema_name=relation.schema_name,
        name=relation.name,
        owner=fact["owner"],
        persistence="unlogged" if fact["persistence"] == "u" else "permanent",
        columns=columns,
        mode=mode,
        condition=fact["condition"],
        routed_through=route.table if route else None,
        digest_sql=query if mode == "full" else None,
        size_bytes=fact["size_bytes"],
        counters={"inserted": fact["inserted"], "updated": fact["updated"], "deleted": fact["deleted"]},
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
