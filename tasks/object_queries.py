"""The queries of tasks.object_facts: what PostgreSQL's catalogues say of objects that a dump brings back, in words that no major prints otherwise.

Expressions and queries (defaults, conditions, views) are told by being there alone: majors print them differently. Texts that are the user's own (a function's body) and
long ones are told by their SHA-256.
"""

from typing import LiteralString, NamedTuple


class Owned(NamedTuple):
    """A catalogue whose objects have an owner: its columns, the letter by which acldefault() knows the kind (empty: without privileges), and which of them count."""

    catalogue: LiteralString
    owner: LiteralString
    namespace: LiteralString = "NULL::oid"
    acl: LiteralString = ""
    letter: LiteralString = ""
    condition: LiteralString = "o.oid >= 16384"


OWNED = (
    # Indexes belong to their table's owner.
    Owned(
        "pg_class",
        "o.relowner",
        "o.relnamespace",
        "o.relacl",
        "CASE o.relkind WHEN 'S' THEN 's' ELSE 'r' END",
        "o.oid >= 16384 AND o.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')",
    ),
    Owned("pg_proc", "o.proowner", "o.pronamespace", "o.proacl", "'f'"),
    Owned("pg_type", "o.typowner", "o.typnamespace", "o.typacl", "'T'"),
    Owned("pg_namespace", "o.nspowner", acl="o.nspacl", letter="'n'", condition="true"),
    Owned("pg_language", "o.lanowner", acl="o.lanacl", letter="'l'"),
    Owned("pg_foreign_data_wrapper", "o.fdwowner", acl="o.fdwacl", letter="'F'"),
    Owned("pg_foreign_server", "o.srvowner", acl="o.srvacl", letter="'S'"),
    Owned("pg_operator", "o.oprowner", "o.oprnamespace"),
    Owned("pg_opfamily", "o.opfowner", "o.opfnamespace"),
    Owned("pg_opclass", "o.opcowner", "o.opcnamespace"),
    Owned("pg_collation", "o.collowner", "o.collnamespace"),
    Owned("pg_conversion", "o.conowner", "o.connamespace"),
    Owned("pg_ts_dict", "o.dictowner", "o.dictnamespace"),
    Owned("pg_ts_config", "o.cfgowner", "o.cfgnamespace"),
    Owned("pg_statistic_ext", "o.stxowner", "o.stxnamespace"),
    Owned("pg_event_trigger", "o.evtowner"),
    Owned("pg_publication", "o.pubowner"),
)
OWNER_QUERY: LiteralString = """
    SELECT '{catalogue}'::regclass::oid, o.oid, coalesce(n.nspname, '')::text, pg_get_userbyid({owner})::text, {letter}, {acl}, {default}
    FROM {catalogue} AS o LEFT JOIN pg_namespace AS n ON n.oid = {namespace} WHERE {condition}
"""
# Of initdb or of an extension, and with other privileges than it was made with: a dump brings the change along.
CHANGED_QUERY: LiteralString = """
    SELECT identity.type, coalesce(n.nspname, ''), identity.identity, pg_get_userbyid({owner}), {letter},
           coalesce({acl}, acldefault(({letter})::"char", {owner}))::text[], coalesce(i.initprivs, acldefault(({letter})::"char", {owner}))::text[]
    FROM {catalogue} AS o LEFT JOIN pg_namespace AS n ON n.oid = {namespace}
    LEFT JOIN pg_init_privs AS i ON i.classoid = '{catalogue}'::regclass AND i.objoid = o.oid AND i.objsubid = 0
    CROSS JOIN LATERAL pg_identify_object('{catalogue}'::regclass, o.oid, 0) AS identity
    WHERE {acl} IS DISTINCT FROM i.initprivs AND ({acl} IS NOT NULL OR i.initprivs IS NOT NULL)
      AND (EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = '{catalogue}'::regclass AND d.objid = o.oid AND d.deptype = 'e')
           OR (o.oid < 16384 AND {of_initdb}))
"""
COLUMN_PRIVILEGES: LiteralString = """
    SELECT a.attrelid, a.attname, a.attacl::text[], n.nspname
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE a.attacl IS NOT NULL AND a.attrelid >= 16384 AND NOT a.attisdropped
"""
DEFAULT_PRIVILEGES: LiteralString = """
    SELECT 'pg_default_acl'::regclass::oid, d.oid, coalesce(n.nspname, ''), d.defaclobjtype::text, d.defaclacl::text[]
    FROM pg_default_acl AS d LEFT JOIN pg_namespace AS n ON n.oid = d.defaclnamespace
"""
# A list for all letters that the server knows, by acldefault()'s letter for the kind: what an owner has.
EVERYTHING: LiteralString = """
    SELECT k.letter, acldefault(k.letter::"char", 10)::text[] FROM unnest('{r,s,f,T,n,l,F,S,L}'::text[]) AS k (letter)
"""
LARGE_OBJECTS: LiteralString = """
    SELECT o.oid::text, pg_get_userbyid(o.lomowner), o.lomacl::text[], acldefault('L', o.lomowner)::text[], 1, 0 FROM pg_largeobject_metadata AS o
"""
# Too many to be listed: one line for those that are alike, with a sum over their oids.
MANY_LARGE_OBJECTS: LiteralString = """
    SELECT NULL, pg_get_userbyid(o.lomowner), o.acl::text[], acldefault('L', o.lomowner)::text[], count(*), sum(hashoidextended(o.oid, 42))
    FROM (SELECT l.oid, l.lomowner, l.lomacl::text AS acl FROM pg_largeobject_metadata AS l) AS o GROUP BY o.lomowner, o.acl
"""
COMMENTS: LiteralString = """
    SELECT x.classoid, x.objoid, a.attname, {hash description} AS hash
    FROM pg_description AS x LEFT JOIN pg_attribute AS a ON x.objsubid > 0 AND a.attrelid = x.objoid AND a.attnum = x.objsubid
    WHERE x.objoid >= 16384 AND (x.objsubid = 0 OR x.classoid = 'pg_class'::regclass)
"""
# What hangs on a relation or a type and can have a comment of its own, with whom it hangs on.
PARTS: LiteralString = """
    SELECT 'pg_constraint'::regclass::oid, k.oid, 'constraint ' || k.conname,
           CASE WHEN k.conrelid <> 0 THEN 'pg_class'::regclass::oid ELSE 'pg_type'::regclass::oid END, greatest(k.conrelid, k.contypid)
    FROM pg_constraint AS k WHERE k.oid >= 16384 AND k.conparentid = 0 AND (k.contype IN ('p', 'u', 'x', 'f') OR (k.contype = 'c' AND (k.conislocal OR k.contypid <> 0)))
    UNION ALL SELECT 'pg_class'::regclass::oid, i.indexrelid, 'index ' || c.relname, 'pg_class'::regclass::oid, i.indrelid
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE c.oid >= 16384 AND i.indisready AND (i.indisvalid OR t.relkind = 'p')
    UNION ALL SELECT 'pg_class'::regclass::oid, t.typrelid, '', 'pg_type'::regclass::oid, t.oid
    FROM pg_type AS t JOIN pg_class AS c ON c.oid = t.typrelid WHERE c.relkind = 'c' AND t.oid >= 16384
"""

# Each gives the catalogue's oid and the object's, its schema, and a statement (NULL: none). {hash X} is a text's SHA-256, {names A OF R} columns' names.
STATES: tuple[LiteralString, ...] = (
    # Relations.
    """SELECT 'pg_class'::regclass::oid, c.oid, n.nspname, s.statement
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_am AS m ON m.oid = c.relam,
    LATERAL (VALUES (CASE WHEN c.relrowsecurity THEN 'row security enabled' END), (CASE WHEN c.relforcerowsecurity THEN 'row security forced' END),
        (CASE WHEN c.relkind IN ('r', 'p') AND c.relreplident <> 'd' THEN 'replica identity '
            || CASE c.relreplident WHEN 'f' THEN 'full' WHEN 'i' THEN 'index' ELSE 'nothing' END END),
        ('options ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(c.reloptions) AS o)),
        (CASE WHEN m.amname <> 'heap' THEN 'access method ' || m.amname END),
        (CASE WHEN c.relkind = 'm' AND NOT c.relispopulated THEN 'not filled' END),
        (CASE WHEN c.relpersistence = 'u' THEN 'unlogged' END)) AS s (statement)
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND s.statement IS NOT NULL""",
    """SELECT 'pg_class'::regclass::oid, c.oid, n.nspname, 'inherits ' || pn.nspname || '.' || pc.relname
    FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    JOIN pg_class AS pc ON pc.oid = i.inhparent JOIN pg_namespace AS pn ON pn.oid = pc.relnamespace WHERE c.relkind IN ('r', 'p', 'f')""",
    # Columns. Types of plain tables' columns are compared by themselves; a view's may be another on another major.
    """SELECT 'pg_class'::regclass::oid, a.attrelid, n.nspname, 'column ' || a.attname || ': ' || s.statement
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_type AS t ON t.oid = a.atttypid
    LEFT JOIN pg_collation AS k ON k.oid = a.attcollation AND a.attcollation <> t.typcollation,
    LATERAL (SELECT concat_ws(', ', CASE WHEN c.relkind IN ('p', 'f') THEN format_type(a.atttypid, a.atttypmod) END,
        CASE WHEN a.attnotnull AND c.relkind <> 'v' THEN 'not null' END, CASE a.attidentity WHEN 'a' THEN 'identity' WHEN 'd' THEN 'identity by default' END,
        CASE a.attgenerated WHEN 's' THEN 'generated' WHEN 'v' THEN 'virtual' ELSE CASE WHEN a.atthasdef THEN 'default' END END,
        'collation ' || k.collname, CASE WHEN a.attstorage <> t.typstorage AND c.relkind IN ('r', 'p', 'm') THEN 'storage ' || a.attstorage::text END,
        CASE WHEN a.attcompression <> '' THEN 'compression ' || a.attcompression::text END,
        CASE WHEN a.attstattarget >= 0 THEN 'statistics ' || a.attstattarget END, 'options ' || array_to_string(a.attoptions, ', ')) AS statement) AS s
    WHERE a.attrelid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND s.statement <> ''""",
    # Constraints; whether they are validated is told by itself, not-null ones with the columns.
    """SELECT CASE WHEN k.conrelid <> 0 THEN 'pg_class'::regclass::oid ELSE 'pg_type'::regclass::oid END, greatest(k.conrelid, k.contypid), n.nspname,
        'constraint ' || k.conname || ': ' || CASE k.contype WHEN 'c' THEN 'check' || CASE WHEN k.connoinherit THEN ', no inherit' ELSE '' END
        || CASE WHEN to_jsonb(k) @> '{"conenforced": false}' THEN ', not enforced' ELSE '' END
        WHEN 'x' THEN 'exclusion' || CASE WHEN k.condeferrable THEN ', deferrable' ELSE '' END || CASE WHEN k.condeferred THEN ', deferred' ELSE '' END
        ELSE replace(replace(pg_get_constraintdef(k.oid), '"', ''), ' NOT VALID', '') END
    FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
    WHERE k.oid >= 16384 AND (k.contype IN ('p', 'u', 'x') OR (k.contype = 'f' AND k.conparentid = 0) OR (k.contype = 'c' AND (k.conislocal OR k.contypid <> 0)))""",
    # Indexes, those of constraints too.
    """SELECT 'pg_class'::regclass::oid, i.indrelid, n.nspname, 'index ' || c.relname || ': ' || concat_ws(', ', m.amname, CASE WHEN i.indisunique THEN 'unique' END,
        '(' || string_agg(coalesce(a.attname, 'expression') || ' ' || coalesce(p.opcname, 'included')
            || CASE coalesce(k.option, 0) WHEN 0 THEN '' ELSE ' ' || k.option END,
            ', ' ORDER BY k.position) || ')',
        CASE WHEN i.indpred IS NOT NULL THEN 'partial' END, CASE WHEN i.indisreplident THEN 'replica identity' END, CASE WHEN i.indisclustered THEN 'clustered' END,
        'options ' || array_to_string(c.reloptions, ', '))
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_am AS m ON m.oid = c.relam
    JOIN pg_class AS t ON t.oid = i.indrelid
    CROSS JOIN LATERAL unnest(i.indkey::int2[], i.indclass::oid[], i.indoption::int2[]) WITH ORDINALITY AS k (number, class, option, position)
    LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.number AND k.number <> 0 LEFT JOIN pg_opclass AS p ON p.oid = k.class
    WHERE c.oid >= 16384 AND i.indisready AND (i.indisvalid OR t.relkind = 'p') GROUP BY i.indexrelid, c.oid, n.oid, m.oid""",
    # Triggers. A partition's clone is dumped when it fires otherwise than its parent.
    """SELECT 'pg_class'::regclass::oid, t.tgrelid, n.nspname, 'trigger ' || t.tgname || ': ' || concat_ws(', ',
        CASE t.tgenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'always' ELSE 'on replicas' END,
        'form ' || t.tgtype, t.tgfoid::regprocedure::text,
        CASE WHEN t.tgargs <> '' THEN 'arguments ' || left(encode(sha256(t.tgargs), 'hex'), 16) END, CASE WHEN t.tgqual IS NOT NULL THEN 'when' END,
        CASE WHEN t.tgdeferrable THEN 'deferrable' END, CASE WHEN t.tginitdeferred THEN 'deferred' END)
    FROM pg_trigger AS t JOIN pg_class AS c ON c.oid = t.tgrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_trigger AS p ON p.oid = t.tgparentid
    WHERE NOT t.tgisinternal AND (t.tgparentid = 0 OR p.tgenabled <> t.tgenabled)""",
    """SELECT 'pg_class'::regclass::oid, r.ev_class, n.nspname, 'rule ' || r.rulename || ': ' || concat_ws(', ', 'event ' || r.ev_type::text,
        CASE r.ev_enabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'always' ELSE 'on replicas' END, CASE WHEN r.is_instead THEN 'instead' END)
    FROM pg_rewrite AS r JOIN pg_class AS c ON c.oid = r.ev_class JOIN pg_namespace AS n ON n.oid = c.relnamespace WHERE r.oid >= 16384 AND r.rulename <> '_RETURN'""",
    """SELECT 'pg_class'::regclass::oid, o.polrelid, n.nspname, 'policy ' || o.polname || ': ' || concat_ws(', ',
        CASE o.polcmd WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all' END,
        CASE WHEN o.polpermissive THEN 'permissive' ELSE 'restrictive' END,
        'to ' || (SELECT string_agg(CASE r WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(r) END, ', ' ORDER BY pg_get_userbyid(r)) FROM unnest(o.polroles) AS r),
        CASE WHEN o.polqual IS NOT NULL THEN 'using' END, CASE WHEN o.polwithcheck IS NOT NULL THEN 'with check' END)
    FROM pg_policy AS o JOIN pg_class AS c ON c.oid = o.polrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace""",
    """SELECT 'pg_class'::regclass::oid, c.oid, n.nspname, concat_ws(' ',
        s.seqtypid::regtype::text, 'start', s.seqstart, 'by', s.seqincrement, 'from', s.seqmin, 'to', s.seqmax,
        'cache', s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END, (SELECT 'of ' || tn.nspname || '.' || t.relname || '.' || a.attname
            FROM pg_depend AS d JOIN pg_class AS t ON t.oid = d.refobjid JOIN pg_namespace AS tn ON tn.oid = t.relnamespace
            JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refclassid = 'pg_class'::regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')))
    FROM pg_sequence AS s JOIN pg_class AS c ON c.oid = s.seqrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace""",
    """SELECT 'pg_class'::regclass::oid, c.oid, n.nspname, 'server ' || s.srvname
    FROM pg_foreign_table AS f JOIN pg_foreign_server AS s ON s.oid = f.ftserver JOIN pg_class AS c ON c.oid = f.ftrelid
    JOIN pg_namespace AS n ON n.oid = c.relnamespace""",
    # Functions, procedures, aggregates.
    """SELECT 'pg_proc'::regclass::oid, p.oid, n.nspname, s.statement
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_language AS l ON l.oid = p.prolang LEFT JOIN pg_aggregate AS g ON g.aggfnoid = p.oid,
    LATERAL (VALUES (concat_ws(', ', 'language ' || l.lanname,
            CASE p.provolatile WHEN 'i' THEN 'immutable' WHEN 's' THEN 'stable' ELSE 'volatile' END, CASE WHEN p.proisstrict THEN 'strict' END,
            CASE WHEN p.proleakproof THEN 'leakproof' END, 'parallel ' || p.proparallel::text, 'cost ' || p.procost,
            CASE WHEN p.prorows > 0 THEN 'rows ' || p.prorows END)),
        (CASE WHEN p.prosecdef THEN 'security definer' END), ('returns ' || pg_get_function_result(p.oid)),
        ('settings ' || (SELECT string_agg(c, ', ' ORDER BY c) FROM unnest(p.proconfig) AS c)),
        (CASE WHEN p.prosqlbody IS NOT NULL THEN 'a body of SQL' WHEN g.aggfnoid IS NULL THEN 'text ' || {hash p.prosrc} END),
        (concat_ws(', ', 'state function ' || g.aggtransfn::text,
            'final function ' || nullif(g.aggfinalfn::oid, 0)::regproc::text, 'first ' || g.agginitval))) AS s (statement)
    WHERE p.oid >= 16384 AND s.statement <> ''
      AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')""",
    # Types: enums with their labels in order, domains, ranges, composites.
    """SELECT 'pg_type'::regclass::oid, t.oid, n.nspname, CASE t.typtype
        WHEN 'e' THEN 'labels ' || coalesce((SELECT string_agg(e.enumlabel, ', ' ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = t.oid), '')
        WHEN 'd' THEN concat_ws(', ', 'over ' || format_type(t.typbasetype, t.typtypmod), CASE WHEN t.typnotnull THEN 'not null' END,
            CASE WHEN t.typdefault IS NOT NULL THEN 'default' END)
        WHEN 'r' THEN 'range of ' || (SELECT format_type(r.rngsubtype, NULL) FROM pg_range AS r WHERE r.rngtypid = t.oid)
        WHEN 'c' THEN 'attributes ' || coalesce((SELECT string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
            FROM pg_attribute AS a WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '') END
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace WHERE t.oid >= 16384 AND t.typtype IN ('e', 'd', 'r', 'c')""",
    # What is in no schema, and text search.
    """SELECT 'pg_event_trigger'::regclass::oid, e.oid, '', concat_ws(', ', e.evtevent,
        CASE e.evtenabled WHEN 'O' THEN 'enabled' WHEN 'D' THEN 'disabled' WHEN 'A' THEN 'always' ELSE 'on replicas' END, e.evtfoid::regproc::text,
        (SELECT string_agg(t, ' ' ORDER BY t) FROM unnest(e.evttags) AS t)) FROM pg_event_trigger AS e""",
    """SELECT 'pg_publication'::regclass::oid, p.oid, '', 'with '
        || (SELECT string_agg(j.key, ', ' ORDER BY j.key) FROM jsonb_each_text(to_jsonb(p)) AS j WHERE j.value = 'true')
    FROM pg_publication AS p""",
    """SELECT 'pg_publication'::regclass::oid, r.prpubid, '', concat_ws(' ', 'table', n.nspname || '.' || c.relname,
        (SELECT '(' || string_agg(a.attname, ', ' ORDER BY a.attname) || ')' FROM pg_attribute AS a
         WHERE a.attrelid = r.prrelid AND a.attnum > 0 AND ' ' || translate(to_jsonb(r) ->> 'prattrs', '[,]', ' ') || ' ' LIKE '% ' || a.attnum || ' %'),
        CASE WHEN to_jsonb(r) ->> 'prqual' IS NOT NULL THEN 'filtered' END)
    FROM pg_publication_rel AS r JOIN pg_class AS c ON c.oid = r.prrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace""",
    """SELECT 'pg_cast'::regclass::oid, k.oid, '', concat_ws(' ', 'context', k.castcontext::text, 'method', k.castmethod::text, nullif(k.castfunc, 0)::regprocedure::text)
    FROM pg_cast AS k WHERE k.oid >= 16384""",
    """SELECT 'pg_operator'::regclass::oid, o.oid, n.nspname, concat_ws(', ', o.oprcode::text,
        CASE WHEN o.oprcanmerge THEN 'merges' END, CASE WHEN o.oprcanhash THEN 'hashes' END)
    FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace WHERE o.oid >= 16384""",
    """SELECT 'pg_foreign_server'::regclass::oid, s.oid, '', concat_ws(', ', 'wrapper ' || w.fdwname, 'type ' || s.srvtype, 'version ' || s.srvversion,
        'options ' || (SELECT string_agg(split_part(o, '=', 1), ' ' ORDER BY o) FROM unnest(s.srvoptions) AS o))
    FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw""",
    """SELECT 'pg_foreign_server'::regclass::oid, u.srvid, '', 'user mapping of ' || CASE u.umuser WHEN 0 THEN 'PUBLIC' ELSE u.usename END FROM pg_user_mappings AS u""",
    """SELECT 'pg_ts_config'::regclass::oid, k.oid, n.nspname, 'maps ' || m.maptokentype || ' to ' || (
        SELECT string_agg(dn.nspname || '.' || d.dictname, ', ' ORDER BY x.mapseqno) FROM pg_ts_config_map AS x JOIN pg_ts_dict AS d ON d.oid = x.mapdict
        JOIN pg_namespace AS dn ON dn.oid = d.dictnamespace WHERE x.mapcfg = m.mapcfg AND x.maptokentype = m.maptokentype)
    FROM pg_ts_config AS k JOIN pg_namespace AS n ON n.oid = k.cfgnamespace JOIN (SELECT DISTINCT mapcfg, maptokentype FROM pg_ts_config_map) AS m ON m.mapcfg = k.oid
    WHERE k.oid >= 16384""",
)
# From 15 on.
PUBLISHED_SCHEMAS: LiteralString = """
    SELECT 'pg_publication'::regclass::oid, s.pnpubid, '', 'schema ' || n.nspname FROM pg_publication_namespace AS s JOIN pg_namespace AS n ON n.oid = s.pnnspid
"""

# {own}: in a schema that is not the system's and not left out. One that comes from a parent which is not validated either is told by the parent: a dump says it of that
# alone.
NOT_VALIDATED: LiteralString = """
    SELECT concat_ws('.', n.nspname, coalesce(c.relname, t.typname), k.conname)
    FROM pg_constraint AS k JOIN pg_namespace AS n ON n.oid = k.connamespace
    LEFT JOIN pg_class AS c ON c.oid = k.conrelid LEFT JOIN pg_type AS t ON t.oid = k.contypid
    WHERE NOT k.convalidated AND NOT EXISTS (SELECT FROM pg_constraint AS p WHERE p.oid = k.conparentid AND NOT p.convalidated)
      AND NOT (NOT k.conislocal AND k.conrelid <> 0 AND EXISTS (
          SELECT FROM pg_inherits AS i JOIN pg_constraint AS p ON p.conrelid = i.inhparent AND p.contype = k.contype AND (p.conname = k.conname OR k.contype = 'n')
          WHERE i.inhrelid = k.conrelid AND NOT p.convalidated)) AND {own} ORDER BY 1
"""
# Keys whose own triggers were switched off; a dump switches them on again.
NOT_ENFORCED: LiteralString = """
    SELECT DISTINCT concat_ws('.', n.nspname, c.relname, k.conname)
    FROM pg_trigger AS t JOIN pg_constraint AS k ON k.oid = t.tgconstraint JOIN pg_namespace AS n ON n.oid = k.connamespace JOIN pg_class AS c ON c.oid = k.conrelid
    WHERE t.tgisinternal AND t.tgenabled <> 'O' AND {own} ORDER BY 1
"""
INVALID_INDEXES: LiteralString = """
    SELECT n.nspname || '.' || c.relname FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace
    WHERE NOT (i.indisvalid AND i.indisready AND i.indislive) AND c.relpersistence <> 't' AND {own} ORDER BY 1
"""
