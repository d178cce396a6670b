"""What a dump must list without an oid: privileges, comments, sequences' states, user mappings; matched by the words that `pg_restore --list` prints.

Names in tags of privileges and comments are quoted as in SQL (pg_dump's fmtId), the others are bare. Left aside, since pg_dump's words for them differ by major or they
are rare: privileges of languages, comments on anything but relations, columns, routines, types, schemas, constraints, triggers, policies, rules; security labels.
"""

import re
from collections.abc import Sequence

from core.inventory import ExpectedTag
from tasks.postgres import Connection

# In the queries {own} keeps system schemas and those left out away, {not_member …} members of extensions, {granted …} compares privileges with the default ones.
_OWN = "n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' AND n.nspname <> ALL (%(exclude)s)"
_NOT_MEMBER = r"NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS d WHERE d.classid = 'pg_catalog.\1'::regclass AND d.objid = \2 AND d.deptype = 'e')"
# Two lists of privileges say the same whatever their order.
_GRANTED = (
    r"\1 IS NOT NULL AND ARRAY(SELECT a::text FROM pg_catalog.unnest(\1) AS a ORDER BY 1)"
    r" IS DISTINCT FROM ARRAY(SELECT a::text FROM pg_catalog.unnest(\2) AS a ORDER BY 1)"
)

_PRIVILEGES = (
    """SELECT 'ACL', n.nspname, CASE c.relkind WHEN 'S' THEN 'SEQUENCE ' ELSE 'TABLE ' END || pg_catalog.quote_ident(c.relname)
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND {own} AND {not_member pg_class c.oid}
      AND {granted c.relacl; pg_catalog.acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)}""",
    """SELECT 'ACL', n.nspname, 'COLUMN ' || pg_catalog.quote_ident(c.relname) || '.' || pg_catalog.quote_ident(a.attname)
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE pg_catalog.cardinality(a.attacl) > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND {own}
      AND {not_member pg_class c.oid}""",
    """SELECT 'ACL', n.nspname, CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || pg_catalog.quote_ident(p.proname)
        || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')'
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE p.prokind <> 'a' AND {granted p.proacl; pg_catalog.acldefault('f', p.proowner)} AND {own} AND {not_member pg_proc p.oid}
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS i
                      WHERE i.classid = 'pg_catalog.pg_proc'::regclass AND i.objid = p.oid AND i.deptype = 'i')""",
    """SELECT 'ACL', n.nspname, 'TYPE ' || pg_catalog.quote_ident(t.typname)
    FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_class AS c ON c.oid = t.typrelid
    WHERE t.typtype IN ('e', 'd', 'r', 'c') AND coalesce(c.relkind, 'c') = 'c'
      AND {granted t.typacl; pg_catalog.acldefault('T', t.typowner)} AND {own} AND {not_member pg_type t.oid}""",
    # The public schema's privileges are listed when they differ from initdb's; looked at only while its owner is initdb's too (pg_database_owner).
    """SELECT 'ACL', '-', 'SCHEMA ' || pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_namespace AS n
    LEFT JOIN pg_catalog.pg_init_privs AS i ON i.classoid = 'pg_catalog.pg_namespace'::regclass AND i.objoid = n.oid
    WHERE (n.nspname <> 'public' OR (i.initprivs IS NOT NULL AND n.nspowner = 6171))
      AND {granted n.nspacl; coalesce(i.initprivs, pg_catalog.acldefault('n', n.nspowner))} AND {own} AND {not_member pg_namespace n.oid}""",
    """SELECT 'ACL', '-', 'FOREIGN SERVER ' || pg_catalog.quote_ident(s.srvname) FROM pg_catalog.pg_foreign_server AS s
    WHERE {granted s.srvacl; pg_catalog.acldefault('S', s.srvowner)} AND {not_member pg_foreign_server s.oid}""",
    """SELECT 'ACL', '-', 'FOREIGN DATA WRAPPER ' || pg_catalog.quote_ident(w.fdwname) FROM pg_catalog.pg_foreign_data_wrapper AS w
    WHERE {granted w.fdwacl; pg_catalog.acldefault('F', w.fdwowner)} AND {not_member pg_foreign_data_wrapper w.oid}""",
    """SELECT 'ACL', '-', 'LARGE OBJECT ' || l.oid FROM pg_catalog.pg_largeobject_metadata AS l
    WHERE {granted l.lomacl; pg_catalog.acldefault('L', l.lomowner)} LIMIT 10000""",
)
_COMMENTS = (
    """SELECT 'COMMENT', n.nspname, CASE WHEN x.objsubid > 0 THEN 'COLUMN' WHEN c.relkind IN ('r', 'p') THEN 'TABLE' WHEN c.relkind = 'v' THEN 'VIEW'
        WHEN c.relkind = 'm' THEN 'MATERIALIZED VIEW' WHEN c.relkind = 'f' THEN 'FOREIGN TABLE' WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'INDEX' END
        || ' ' || pg_catalog.quote_ident(c.relname) || coalesce('.' || pg_catalog.quote_ident(a.attname), '')
    FROM pg_catalog.pg_description AS x JOIN pg_catalog.pg_class AS c ON c.oid = x.objoid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attribute AS a ON a.attrelid = c.oid AND a.attnum = x.objsubid AND x.objsubid > 0
    WHERE x.classoid = 'pg_catalog.pg_class'::regclass AND (x.objsubid = 0 OR c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c'))
      AND c.relpersistence <> 't' AND {own} AND {not_member pg_class c.oid}
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indexrelid = c.oid AND NOT i.indisvalid)""",
    """SELECT 'COMMENT', n.nspname, CASE p.prokind WHEN 'p' THEN 'PROCEDURE ' ELSE 'FUNCTION ' END || pg_catalog.quote_ident(p.proname)
        || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')'
    FROM pg_catalog.pg_description AS x JOIN pg_catalog.pg_proc AS p ON p.oid = x.objoid JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    WHERE x.classoid = 'pg_catalog.pg_proc'::regclass AND p.prokind <> 'a' AND {own} AND {not_member pg_proc p.oid}""",
    """SELECT 'COMMENT', n.nspname, CASE t.typtype WHEN 'd' THEN 'DOMAIN ' ELSE 'TYPE ' END || pg_catalog.quote_ident(t.typname)
    FROM pg_catalog.pg_description AS x JOIN pg_catalog.pg_type AS t ON t.oid = x.objoid JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace
    WHERE x.classoid = 'pg_catalog.pg_type'::regclass AND t.typtype IN ('e', 'd', 'r', 'c') AND {own} AND {not_member pg_type t.oid}""",
    """SELECT 'COMMENT', '-', 'SCHEMA ' || pg_catalog.quote_ident(n.nspname)
    FROM pg_catalog.pg_description AS x JOIN pg_catalog.pg_namespace AS n ON n.oid = x.objoid
    WHERE x.classoid = 'pg_catalog.pg_namespace'::regclass AND n.nspname <> 'public' AND {own} AND {not_member pg_namespace n.oid}""",
    """SELECT 'COMMENT', n.nspname, o.word || ' ' || pg_catalog.quote_ident(o.name) || ' ON ' || pg_catalog.quote_ident(c.relname)
    FROM pg_catalog.pg_description AS x JOIN (
        SELECT 'pg_catalog.pg_constraint'::regclass AS class, k.oid, k.conrelid AS relation, 'CONSTRAINT' AS word, k.conname AS name
        FROM pg_catalog.pg_constraint AS k WHERE k.conparentid = 0 AND (k.contype IN ('p', 'u', 'x', 'f') OR (k.contype = 'c' AND k.conislocal))
        UNION ALL SELECT 'pg_catalog.pg_trigger'::regclass, t.oid, t.tgrelid, 'TRIGGER', t.tgname
        FROM pg_catalog.pg_trigger AS t WHERE NOT t.tgisinternal AND t.tgparentid = 0
        UNION ALL SELECT 'pg_catalog.pg_policy'::regclass, p.oid, p.polrelid, 'POLICY', p.polname FROM pg_catalog.pg_policy AS p
        UNION ALL SELECT 'pg_catalog.pg_rewrite'::regclass, r.oid, r.ev_class, 'RULE', r.rulename
        FROM pg_catalog.pg_rewrite AS r WHERE r.rulename <> '_RETURN') AS o ON o.class = x.classoid AND o.oid = x.objoid
    JOIN pg_catalog.pg_class AS c ON c.oid = o.relation JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE {own} AND {not_member pg_class c.oid}""",
)
_OTHERS = (
    """SELECT 'SEQUENCE SET', n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND NOT (%(in_recovery)s AND c.relpersistence = 'u') AND {own} AND {not_member pg_class c.oid}""",
    """SELECT 'SEQUENCE OWNED BY', n.nspname, c.relname FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_depend AS o ON o.classid = 'pg_catalog.pg_class'::regclass AND o.objid = c.oid AND o.objsubid = 0
        AND o.refclassid = 'pg_catalog.pg_class'::regclass AND o.refobjsubid > 0 AND o.deptype = 'a'
    WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND {own} AND {not_member pg_class c.oid} AND {not_member pg_class o.refobjid}""",
    """SELECT 'USER MAPPING', '-', 'USER MAPPING ' || u.usename || ' SERVER ' || u.srvname FROM pg_catalog.pg_user_mappings AS u
    WHERE {not_member pg_foreign_server u.srvid}""",
)


def _filled(query: str) -> bytes:
    query = query.replace("{own}", _OWN)
    query = re.sub(r"\{not_member (\S+) (\S+)\}", _NOT_MEMBER, query)
    return re.sub(r"\{granted ([^;]+); ([^{}]+)\}", _GRANTED, query).encode()


def read_expected_tags(connection: Connection, exclude: Sequence[str], *, in_recovery: bool) -> tuple[ExpectedTag, ...]:
    """Given a session in its snapshot and the schemas left out, return what the archive must list by words, in the order of kinds. Raise psycopg.Error."""
    tags = []
    for query in (*_PRIVILEGES, *_COMMENTS, *_OTHERS):
        for kind, schema_name, tag in connection.execute(
            _filled(query), {"exclude": list(exclude), "in_recovery": in_recovery}
        ):
            tags.append(ExpectedTag(kind=kind, schema_name=schema_name, tag=tag))
    return tuple(tags)
