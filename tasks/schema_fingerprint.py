"""One SHA-256 for a database's schema: equal for a database and its restore on the same major.

It tells definitions, not owners, privileges, tablespaces or oids, which a restore elsewhere may change on purpose, nor extensions' members.
Expressions are compared without casts, parentheses and blanks: PostgreSQL prints `status IN ('a', 'b')` of a varchar column with its casts in another place after a
restore than before (the same meaning, another text), and a fingerprint that differs for nothing would soon be ignored.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import LiteralString

from tasks.postgres import Connection

_WORD = r'(?:"(?:[^"]|"")+"|\w+)'
_CAST = re.compile(
    rf"::{_WORD}(?:\.{_WORD})?(?: varying| precision)?(?:\(\d+(?:, ?-?\d+)?\))?(?: with(?:out)? time zone)?(?:\(\d+\))?(?:\[\])*"
)
_FILLING = re.compile(r"[\s()]+")

_OWN_NAMESPACE: LiteralString = (
    "n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND n.nspname <> ALL (%(exclude)s)"
)

# Each query gives rows of a plain part and an expression part; the latter is compared as said above.
_QUERIES: tuple[LiteralString, ...] = (
    # Relations.
    """SELECT pg_catalog.jsonb_build_array('relation', c.relkind, n.nspname, c.relname, c.relpersistence, c.reloptions, c.relrowsecurity,
           c.relforcerowsecurity, c.relispartition, pg_catalog.pg_get_partkeydef(c.oid), f.ftoptions, s.srvname),
        concat_ws(' ', CASE WHEN c.relkind IN ('v', 'm') THEN pg_catalog.pg_get_viewdef(c.oid) END, pg_catalog.pg_get_expr(c.relpartbound, c.oid))
    FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_foreign_table AS f ON f.ftrelid = c.oid LEFT JOIN pg_catalog.pg_foreign_server AS s ON s.oid = f.ftserver
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c', 'S') AND c.relpersistence <> 't' AND {relation}""",
    # Columns, numbered without the dropped ones.
    """SELECT pg_catalog.jsonb_build_array('column', n.nspname, c.relname,
           row_number() OVER (PARTITION BY a.attrelid ORDER BY a.attnum), a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attidentity, a.attgenerated, coalesce(k.collname, '')),
        pg_catalog.pg_get_expr(d.adbin, d.adrelid)
    FROM pg_catalog.pg_attribute AS a JOIN pg_catalog.pg_class AS c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    LEFT JOIN pg_catalog.pg_collation AS k ON k.oid = a.attcollation
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't' AND a.attnum > 0 AND NOT a.attisdropped AND {relation}""",
    # Inheritance and partitions.
    """SELECT pg_catalog.jsonb_build_array('inherits', n.nspname, c.relname, i.inhseqno, i.inhparent::regclass::text), NULL
    FROM pg_catalog.pg_inherits AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'f') AND {relation}""",
    # Constraints; not-null ones are told with the columns, clones on partitions by their parent.
    """SELECT pg_catalog.jsonb_build_array('constraint', n.nspname, coalesce(c.relname, t.typname), k.conname, k.contype, k.condeferrable, k.condeferred,
           k.convalidated), pg_catalog.pg_get_constraintdef(k.oid)
    FROM pg_catalog.pg_constraint AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.connamespace
    LEFT JOIN pg_catalog.pg_class AS c ON c.oid = k.conrelid LEFT JOIN pg_catalog.pg_type AS t ON t.oid = k.contypid
    WHERE k.contype NOT IN ('n', 't') AND NOT (k.contype = 'f' AND k.conparentid <> 0) AND {constraint}""",
    # Indexes, but those that a failed CREATE INDEX CONCURRENTLY left behind, which pg_dump leaves out.
    """SELECT pg_catalog.jsonb_build_array('index', n.nspname, c.relname, i.indisclustered, i.indisreplident, i.indisvalid),
        pg_catalog.pg_get_indexdef(c.oid)
    FROM pg_catalog.pg_index AS i JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_catalog.pg_class AS t ON t.oid = i.indrelid
    WHERE c.relpersistence <> 't' AND i.indisready AND (i.indisvalid OR t.relkind = 'p') AND {index}""",
    # Sequences.
    """SELECT pg_catalog.jsonb_build_array('sequence', n.nspname, c.relname, s.seqtypid::regtype::text, s.seqstart, s.seqincrement, s.seqmin, s.seqmax,
           s.seqcache, s.seqcycle), NULL
    FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE c.relpersistence <> 't' AND {relation}""",
    # Functions, procedures, aggregates. prosqlbody is printed by pg_get_function_sqlbody.
    """SELECT pg_catalog.jsonb_build_array('function', p.prokind, n.nspname, p.proname, pg_catalog.pg_get_function_identity_arguments(p.oid),
           pg_catalog.pg_get_function_result(p.oid), l.lanname, p.provolatile, p.proisstrict, p.prosecdef, p.proleakproof, p.proparallel, p.proconfig,
           p.procost, p.prorows, p.prosrc, g.aggtransfn::text, g.aggfinalfn::text, g.agginitval),
        concat_ws(' ', pg_catalog.pg_get_function_arguments(p.oid), pg_catalog.pg_get_function_sqlbody(p.oid))
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    LEFT JOIN pg_catalog.pg_aggregate AS g ON g.aggfnoid = p.oid
    WHERE {function}""",
    # Triggers; those of constraints are internal, clones on partitions come with the parent's.
    """SELECT pg_catalog.jsonb_build_array('trigger', n.nspname, c.relname, t.tgname, t.tgenabled), pg_catalog.pg_get_triggerdef(t.oid)
    FROM pg_catalog.pg_trigger AS t JOIN pg_catalog.pg_class AS c ON c.oid = t.tgrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT t.tgisinternal AND t.tgparentid = 0 AND {relation}""",
    # Rules.
    """SELECT pg_catalog.jsonb_build_array('rule', n.nspname, c.relname, r.rulename, r.ev_enabled), pg_catalog.pg_get_ruledef(r.oid)
    FROM pg_catalog.pg_rewrite AS r JOIN pg_catalog.pg_class AS c ON c.oid = r.ev_class JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE r.rulename <> '_RETURN' AND {relation}""",
    # Row security.
    """SELECT pg_catalog.jsonb_build_array('policy', n.nspname, c.relname, o.polname, o.polcmd, o.polpermissive,
           ARRAY(SELECT pg_catalog.pg_get_userbyid(r) FROM pg_catalog.unnest(o.polroles) AS r ORDER BY 1)),
        concat_ws(' ', pg_catalog.pg_get_expr(o.polqual, o.polrelid), 'check', pg_catalog.pg_get_expr(o.polwithcheck, o.polrelid))
    FROM pg_catalog.pg_policy AS o JOIN pg_catalog.pg_class AS c ON c.oid = o.polrelid JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    WHERE {relation}""",
    # Types: enums with their labels in order, domains, ranges, base types.
    """SELECT pg_catalog.jsonb_build_array('type', n.nspname, t.typname, t.typtype, t.typcategory, t.typnotnull,
           CASE WHEN t.typtype = 'd' THEN pg_catalog.format_type(t.typbasetype, t.typtypmod) END,
           ARRAY(SELECT e.enumlabel FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder), r.rngsubtype::regtype::text),
        t.typdefault
    FROM pg_catalog.pg_type AS t JOIN pg_catalog.pg_namespace AS n ON n.oid = t.typnamespace LEFT JOIN pg_catalog.pg_range AS r ON r.rngtypid = t.oid
    WHERE t.typtype IN ('e', 'd', 'r', 'b') AND NOT EXISTS (SELECT FROM pg_catalog.pg_type AS e WHERE e.oid = t.typelem AND e.typarray = t.oid)
      AND {type}""",
    # Extended statistics, extensions, event triggers, publications, foreign servers, casts, languages: by what identifies them.
    """SELECT pg_catalog.jsonb_build_array('statistics', n.nspname, s.stxname), pg_catalog.pg_get_statisticsobjdef(s.oid)
    FROM pg_catalog.pg_statistic_ext AS s JOIN pg_catalog.pg_namespace AS n ON n.oid = s.stxnamespace WHERE {namespace}""",
    "SELECT pg_catalog.jsonb_build_array('extension', e.extname, e.extversion), NULL FROM pg_catalog.pg_extension AS e",
    """SELECT pg_catalog.jsonb_build_array('event trigger', e.evtname, e.evtevent, e.evtfoid::regproc::text, e.evtenabled, e.evttags), NULL
    FROM pg_catalog.pg_event_trigger AS e WHERE {event_trigger}""",
    """SELECT pg_catalog.jsonb_build_array('publication', p.pubname, p.puballtables, p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate,
           ARRAY(SELECT r.prrelid::regclass::text FROM pg_catalog.pg_publication_rel AS r WHERE r.prpubid = p.oid ORDER BY 1)), NULL
    FROM pg_catalog.pg_publication AS p WHERE {publication}""",
    """SELECT pg_catalog.jsonb_build_array('schema', n.nspname), NULL FROM pg_catalog.pg_namespace AS n WHERE n.nspname <> 'public' AND {schema}""",
    """SELECT pg_catalog.jsonb_build_array('server', s.srvname, s.srvtype, s.srvversion, w.fdwname), NULL
    FROM pg_catalog.pg_foreign_server AS s JOIN pg_catalog.pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw WHERE {server}""",
    """SELECT pg_catalog.jsonb_build_array('cast', k.castsource::regtype::text, k.casttarget::regtype::text, k.castcontext, k.castmethod,
           k.castfunc::regprocedure::text), NULL
    FROM pg_catalog.pg_cast AS k WHERE k.oid >= 16384 AND {cast}""",
    """SELECT pg_catalog.jsonb_build_array('operator', n.nspname, o.oid::regoperator::text, o.oprcode::text, o.oprcanmerge, o.oprcanhash), NULL
    FROM pg_catalog.pg_operator AS o JOIN pg_catalog.pg_namespace AS n ON n.oid = o.oprnamespace WHERE {operator}""",
    """SELECT pg_catalog.jsonb_build_array('collation', n.nspname, k.collname, k.collprovider, k.collisdeterministic, k.collcollate, k.collctype), NULL
    FROM pg_catalog.pg_collation AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.collnamespace WHERE {collation}""",
    """SELECT pg_catalog.jsonb_build_array('text search configuration', n.nspname, k.cfgname), NULL
    FROM pg_catalog.pg_ts_config AS k JOIN pg_catalog.pg_namespace AS n ON n.oid = k.cfgnamespace WHERE {ts_config}""",
)


def _own(catalogue: LiteralString, oid: LiteralString, *, in_namespace: bool = True) -> LiteralString:
    member: LiteralString = (
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS x WHERE x.classid = 'pg_catalog."
        + catalogue
        + "'::regclass AND x.objid = "
        + oid
        + " AND x.deptype = 'e')"
    )
    return _OWN_NAMESPACE + " AND " + member if in_namespace else member


_FILTERS: dict[str, LiteralString] = {
    "relation": _own("pg_class", "c.oid"),
    "index": _own("pg_class", "i.indrelid"),
    "constraint": _own("pg_class", "k.conrelid") + " AND " + _own("pg_type", "k.contypid", in_namespace=False),
    "function": _own("pg_proc", "p.oid"),
    "type": _own("pg_type", "t.oid"),
    "namespace": _OWN_NAMESPACE,
    "schema": _own("pg_namespace", "n.oid"),
    "event_trigger": _own("pg_event_trigger", "e.oid", in_namespace=False),
    "publication": _own("pg_publication", "p.oid", in_namespace=False),
    "server": _own("pg_foreign_server", "s.oid", in_namespace=False),
    "cast": _own("pg_cast", "k.oid", in_namespace=False),
    "operator": _own("pg_operator", "o.oid"),
    "collation": _own("pg_collation", "k.oid"),
    "ts_config": _own("pg_ts_config", "k.oid"),
}


def plain_expression(text: str) -> str:
    """Given an expression as PostgreSQL prints it, return it without casts, parentheses and blanks."""
    return _FILLING.sub("", _CAST.sub("", text))


def schema_lines(connection: Connection, exclude: Sequence[str] = ()) -> list[str]:
    """Given a session with PINNED_SETTINGS and the schemas left out, return one line for each part of the schema, sorted: to see what differs."""
    lines = []
    for query in _QUERIES:
        filled = query
        for name, condition in _FILTERS.items():
            filled = filled.replace("{" + name + "}", condition)
        for plain, expression in connection.execute(filled.encode(), {"exclude": list(exclude)}):
            lines.append(f"{json.dumps(plain, ensure_ascii=False)} {plain_expression(expression or '')}")
    return sorted(lines)


def schema_fingerprint(connection: Connection, exclude: Sequence[str] = ()) -> str:
    """Given a session with PINNED_SETTINGS and the schemas left out, return the schema's SHA-256 in hexadecimal. Raise psycopg.Error."""
    return hashlib.sha256("\n".join(schema_lines(connection, exclude)).encode()).hexdigest()
