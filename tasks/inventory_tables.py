"""The tables of a database that pg_dump dumps, read from its catalogues within one snapshot: columns, digests' queries, and through what a restore loads a partition."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg.rows import dict_row

from core.digest_sql import hashed_natively, table_digest_sql
from core.environment_database import Database
from core.inventory import TableDraft, digest_mode
from core.manifest import Column
from tasks.postgres import Connection


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


def read_relations(connection: Connection, exclude: Sequence[str]) -> tuple[Relation, ...]:
    """Given a session and the schemas left out, return the tables that pg_dump dumps, in the order of their oids."""
    rows = connection.execute(_RELATIONS, {"exclude": list(exclude)}).fetchall()
    return tuple(Relation(*row) for row in rows)


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


def read_tables(
    connection: Connection, database: Database, relations: Sequence[Relation], *, in_recovery: bool
) -> tuple[TableDraft, ...]:
    """Given a session in its snapshot and the tables as seen in it, return what a backup has to know of each one that holds rows. Raise psycopg.Error."""
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
