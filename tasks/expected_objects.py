"""What a dump of this database must list: every object of its own, from the catalogues, by the oids that `pg_restore --list` prints.

The rules are pg_dump's (src/bin/pg_dump/pg_dump.c): members of extensions come with CREATE EXTENSION; what another object brings along (row and array types, indexes
of constraints, clones on partitions, rules of views, range constructors) has no entry of its own.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from psycopg import sql

from core.inventory import ExpectedEntry, TableDraft
from tasks.postgres import Connection

# Objects made by initdb lie below (FirstNormalObjectId, src/include/access/transam.h).
FIRST_OWN_OID = 16384


class _Kind(NamedTuple):
    """A catalogue whose rows (alias `o`) have entries: the namespace and the table they hang on, if any, which of them count, and the server's first version with it."""

    catalogue: LiteralString
    namespace: LiteralString = "NULL::oid"
    table: LiteralString = "NULL::oid"
    condition: LiteralString = "true"
    since: int = 0


_OBJECTS = (
    _Kind(
        "pg_namespace",
        "o.oid",
        condition="o.nspname !~ '^pg_' AND o.nspname <> 'information_schema' AND o.nspname <> 'public'",
    ),
    _Kind("pg_extension"),
    _Kind(
        "pg_type",
        "o.typnamespace",
        condition="""o.typtype <> 'm' AND o.typisdefined
            AND (o.typrelid = 0 OR (SELECT t.relkind FROM pg_catalog.pg_class AS t WHERE t.oid = o.typrelid) = 'c')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS e WHERE e.oid = o.typelem AND e.typarray = o.oid)""",
    ),
    _Kind(
        "pg_proc",
        "o.pronamespace",
        condition="""NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS i
            WHERE i.classid = 'pg_catalog.pg_proc'::regclass AND i.objid = o.oid AND i.deptype = 'i')""",
    ),
    _Kind(
        "pg_class",
        "o.relnamespace",
        condition="o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND o.relpersistence <> 't'",
    ),
    _Kind(
        "pg_class",
        "o.relnamespace",
        "(SELECT i.indrelid FROM pg_catalog.pg_index AS i WHERE i.indexrelid = o.oid)",
        # As pg_dump: an index that a failed CREATE INDEX CONCURRENTLY left behind is not dumped.
        """o.relkind IN ('i', 'I') AND o.relpersistence <> 't' AND EXISTS (
            SELECT FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
            WHERE i.indexrelid = o.oid AND i.indisready AND (i.indisvalid OR t.relkind = 'p'))
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k
            WHERE k.conindid = o.oid AND k.contype IN ('p', 'u', 'x'))""",
    ),
    _Kind(
        "pg_constraint",
        "o.connamespace",
        "o.conrelid",
        """(o.contype IN ('p', 'u', 'x') OR (o.contype = 'f' AND o.conparentid = 0)
            OR (o.contype IN ('c', 'n') AND o.conislocal AND NOT o.convalidated))""",
    ),
    _Kind(
        "pg_rewrite",
        "(SELECT t.relnamespace FROM pg_catalog.pg_class AS t WHERE t.oid = o.ev_class)",
        "o.ev_class",
        "o.rulename <> '_RETURN'",
    ),
    _Kind(
        "pg_trigger",
        "(SELECT t.relnamespace FROM pg_catalog.pg_class AS t WHERE t.oid = o.tgrelid)",
        "o.tgrelid",
        "NOT o.tgisinternal AND o.tgparentid = 0",
    ),
    _Kind("pg_policy", "(SELECT t.relnamespace FROM pg_catalog.pg_class AS t WHERE t.oid = o.polrelid)", "o.polrelid"),
    _Kind("pg_statistic_ext", "o.stxnamespace", "o.stxrelid"),
    _Kind("pg_collation", "o.collnamespace"),
    _Kind("pg_conversion", "o.connamespace"),
    _Kind("pg_operator", "o.oprnamespace", condition="o.oprcode <> 0"),
    _Kind("pg_opfamily", "o.opfnamespace"),
    _Kind("pg_opclass", "o.opcnamespace"),
    _Kind("pg_ts_parser", "o.prsnamespace"),
    _Kind("pg_ts_dict", "o.dictnamespace"),
    _Kind("pg_ts_template", "o.tmplnamespace"),
    _Kind("pg_ts_config", "o.cfgnamespace"),
    _Kind("pg_am"),
    _Kind("pg_language"),
    # Casts and transforms are in no schema; pg_dump lists them though their types' schema be left out.
    _Kind(
        "pg_cast",
        condition="""NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS i
            WHERE i.classid = 'pg_catalog.pg_cast'::regclass AND i.objid = o.oid AND i.deptype = 'i')""",
    ),
    _Kind("pg_transform"),
    _Kind("pg_foreign_data_wrapper"),
    _Kind("pg_foreign_server"),
    _Kind("pg_event_trigger"),
    _Kind("pg_publication"),
    _Kind(
        "pg_publication_rel",
        "(SELECT t.relnamespace FROM pg_catalog.pg_class AS t WHERE t.oid = o.prrelid)",
        "o.prrelid",
    ),
    _Kind("pg_publication_namespace", "o.pnnspid", since=150000),
    # A subscription's connection string may hold a password: only a superuser's pg_dump lists subscriptions.
    _Kind(
        "pg_subscription",
        condition="""(SELECT u.rolsuper FROM pg_catalog.pg_roles AS u WHERE u.rolname = current_user)
            AND o.subdbid = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())""",
    ),
    _Kind("pg_default_acl", "nullif(o.defaclnamespace, 0)"),
)
# What is listed by a table's oid alone.
_OF_RELATIONS: LiteralString = """
    SELECT 0, c.oid, k.kind, pg_catalog.format('%%s.%%s', n.nspname, c.relname)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN (VALUES ('row security'), ('materialized view data')) AS k (kind)
      ON CASE k.kind WHEN 'row security' THEN c.relkind IN ('r', 'p') AND c.relrowsecurity ELSE c.relkind = 'm' AND c.relispopulated END
    WHERE c.relnamespace <> ALL (%(left_out)s) AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
"""
# Large objects may be millions; the first so many are looked for by oid.
_LARGE_OBJECTS: LiteralString = """
    SELECT 'pg_catalog.pg_largeobject'::regclass::oid, l.oid, 'large object', l.oid::text FROM pg_catalog.pg_largeobject_metadata AS l ORDER BY l.oid LIMIT 10000
"""
_OBJECT_QUERY: LiteralString = """
    SELECT {catalogue}::regclass::oid, o.oid, identity.type, identity.identity
    FROM pg_catalog.{table} AS o CROSS JOIN LATERAL pg_catalog.pg_identify_object({catalogue}::regclass, o.oid, 0) AS identity
    WHERE o.oid >= %(first)s AND {condition}
      AND ({namespace} IS NULL OR {namespace} <> ALL (%(left_out)s))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.deptype = 'e' AND
                      ((d.classid = {catalogue}::regclass AND d.objid = o.oid)
                       OR (d.classid = 'pg_catalog.pg_class'::regclass AND d.objid = {of})))
"""


def read_expected(
    connection: Connection, exclude: Sequence[str], tables: Sequence[TableDraft]
) -> tuple[ExpectedEntry, ...]:
    """Given a session in its snapshot, the schemas left out and the tables with data, return every entry that the archive must list, ordered by oids."""
    parameters = {"first": FIRST_OWN_OID, "left_out": _namespaces_left_out(connection, exclude)}
    kinds = [kind for kind in _OBJECTS if connection.info.server_version >= kind.since]
    entries = [
        ExpectedEntry(catalogue_oid=0, oid=table.oid, kind="table data", name=table.qualified) for table in tables
    ]
    for query in (*map(_query, kinds), sql.SQL(_OF_RELATIONS).format(), sql.SQL(_LARGE_OBJECTS).format()):
        for catalogue_oid, oid, kind, name in connection.execute(query, parameters):
            entries.append(ExpectedEntry(catalogue_oid=catalogue_oid, oid=oid, kind=kind, name=name))
    return tuple(sorted(entries, key=lambda entry: (entry.catalogue_oid, entry.oid)))


def _query(kind: _Kind) -> sql.Composed:
    return sql.SQL(_OBJECT_QUERY).format(
        catalogue=sql.Literal(f"pg_catalog.{kind.catalogue}"),
        table=sql.Identifier(kind.catalogue),
        condition=sql.SQL(kind.condition),
        namespace=sql.SQL(kind.namespace),
        of=sql.SQL(kind.table),
    )


def _namespaces_left_out(connection: Connection, exclude: Sequence[str]) -> list[int]:
    """The oids of the schemas left out and of the system's."""
    rows = connection.execute(
        "SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s) OR nspname ~ '^pg_' OR nspname = 'information_schema'",
        (list(exclude),),
    ).fetchall()
    return [row[0] for row in rows]
