"""What PostgreSQL's catalogues say of details that a dump brings back and tasks.object_queries does not tell: recorded since later, and compared by themselves.

In the same form as there: the catalogue's oid and the object's, its schema, and a statement (NULL: none). Of what is missing on older majors `to_jsonb` gives nothing.
"""

from typing import LiteralString

DETAILS: tuple[LiteralString, ...] = (
    # Options of a table's storage for long values, and the type that a typed table is of.
    """SELECT 'pg_class'::regclass::oid, c.oid, n.nspname, s.statement
    FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace LEFT JOIN pg_class AS t ON t.oid = c.reltoastrelid,
    LATERAL (VALUES ('long values: options ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(t.reloptions) AS o)),
        (CASE WHEN c.reloftype <> 0 THEN 'of type ' || format_type(c.reloftype, NULL) END)) AS s (statement)
    WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm') AND s.statement IS NOT NULL""",
    # Columns: where an inherited one is defined in the table too, and options of foreign ones.
    """SELECT 'pg_class'::regclass::oid, a.attrelid, n.nspname, 'column ' || a.attname || ': ' || s.statement
    FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace,
    LATERAL (SELECT concat_ws(', ', CASE WHEN a.attinhcount > 0 AND a.attislocal AND NOT c.relispartition THEN 'its own too' END,
        'foreign options ' || (SELECT string_agg(o, ', ' ORDER BY o) FROM unnest(a.attfdwoptions) AS o)) AS statement) AS s
    WHERE a.attrelid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'f') AND s.statement <> ''""",
    # Statistics' targets, of indexes' columns and of extended ones.
    """SELECT 'pg_class'::regclass::oid, i.indrelid, n.nspname, 'index ' || c.relname || ' column ' || a.attnum || ': statistics ' || a.attstattarget
    FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_attribute AS a ON a.attrelid = c.oid
    JOIN pg_class AS t ON t.oid = i.indrelid
    WHERE c.oid >= 16384 AND a.attstattarget >= 0 AND i.indisready AND (i.indisvalid OR t.relkind = 'p')""",
    """SELECT 'pg_statistic_ext'::regclass::oid, s.oid, n.nspname, 'statistics ' || s.stxstattarget
    FROM pg_statistic_ext AS s JOIN pg_namespace AS n ON n.oid = s.stxnamespace WHERE s.stxstattarget >= 0""",
    # Text search dictionaries and configurations.
    """SELECT 'pg_ts_dict'::regclass::oid, d.oid, n.nspname, concat_ws(', ', 'template ' || t.tmplname, 'options ' || {hash d.dictinitoption})
    FROM pg_ts_dict AS d JOIN pg_namespace AS n ON n.oid = d.dictnamespace JOIN pg_ts_template AS t ON t.oid = d.dicttemplate WHERE d.oid >= 16384""",
    """SELECT 'pg_ts_config'::regclass::oid, k.oid, n.nspname, 'parser ' || p.prsname
    FROM pg_ts_config AS k JOIN pg_namespace AS n ON n.oid = k.cfgnamespace JOIN pg_ts_parser AS p ON p.oid = k.cfgparser WHERE k.oid >= 16384""",
    # Collations' locales: 15 and 16 call an ICU one colliculocale, 17 calls all but libc's colllocale; ICU's form of a name is another from 16 on.
    """SELECT 'pg_collation'::regclass::oid, k.oid, n.nspname, concat_ws(', ', k.collcollate, k.collctype,
        'locale ' || lower(replace(coalesce(to_jsonb(k) ->> 'colllocale', to_jsonb(k) ->> 'colliculocale'), '_', '-')),
        'rules ' || {hash to_jsonb(k) ->> 'collicurules'})
    FROM pg_collation AS k JOIN pg_namespace AS n ON n.oid = k.collnamespace WHERE k.oid >= 16384""",
    # Operators, and what operator classes and families hold.
    """SELECT 'pg_operator'::regclass::oid, o.oid, n.nspname, concat_ws(', ', 'commutator ' || nullif(o.oprcom, 0)::regoperator::text,
        'negator ' || nullif(o.oprnegate, 0)::regoperator::text, 'restrict ' || nullif(o.oprrest::oid, 0)::regprocedure::text,
        'join ' || nullif(o.oprjoin::oid, 0)::regprocedure::text)
    FROM pg_operator AS o JOIN pg_namespace AS n ON n.oid = o.oprnamespace WHERE o.oid >= 16384""",
    """SELECT 'pg_opfamily'::regclass::oid, f.oid, n.nspname, 'operator ' || m.amopstrategy || ' ' || m.amopopr::regoperator::text || ' ' || m.amoppurpose::text
    FROM pg_opfamily AS f JOIN pg_namespace AS n ON n.oid = f.opfnamespace JOIN pg_amop AS m ON m.amopfamily = f.oid WHERE f.oid >= 16384""",
    """SELECT 'pg_opfamily'::regclass::oid, f.oid, n.nspname, concat_ws(' ', 'function', m.amprocnum, format_type(m.amproclefttype, NULL),
        format_type(m.amprocrighttype, NULL), m.amproc::regprocedure::text)
    FROM pg_opfamily AS f JOIN pg_namespace AS n ON n.oid = f.opfnamespace JOIN pg_amproc AS m ON m.amprocfamily = f.oid WHERE f.oid >= 16384""",
    """SELECT 'pg_opclass'::regclass::oid, o.oid, n.nspname, concat_ws(', ', 'for ' || format_type(o.opcintype, NULL), CASE WHEN o.opcdefault THEN 'default' END,
        'family ' || f.opfname, 'stores ' || format_type(nullif(o.opckeytype, 0), NULL))
    FROM pg_opclass AS o JOIN pg_namespace AS n ON n.oid = o.opcnamespace JOIN pg_opfamily AS f ON f.oid = o.opcfamily WHERE o.oid >= 16384""",
    # Functions: libraries and planner support; of aggregates all parts.
    """SELECT 'pg_proc'::regclass::oid, p.oid, n.nspname, concat_ws(', ', 'library ' || p.probin, 'support ' || nullif(p.prosupport::oid, 0)::regprocedure::text)
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace WHERE p.oid >= 16384 AND (p.probin IS NOT NULL OR p.prosupport::oid <> 0)""",
    """SELECT 'pg_proc'::regclass::oid, p.oid, n.nspname, concat_ws(', ', 'kind ' || g.aggkind::text, 'state ' || format_type(g.aggtranstype, NULL),
        'combine ' || nullif(g.aggcombinefn::oid, 0)::regprocedure::text, 'serial ' || nullif(g.aggserialfn::oid, 0)::regprocedure::text,
        'deserial ' || nullif(g.aggdeserialfn::oid, 0)::regprocedure::text, 'moving ' || nullif(g.aggmtransfn::oid, 0)::regprocedure::text,
        nullif(g.aggminvtransfn::oid, 0)::regprocedure::text, nullif(g.aggmfinalfn::oid, 0)::regprocedure::text, 'sort ' || nullif(g.aggsortop, 0)::regoperator::text,
        CASE WHEN g.aggfinalextra THEN 'extra' END, 'modify ' || g.aggfinalmodify::text || g.aggmfinalmodify::text, 'space ' || g.aggtransspace)
    FROM pg_proc AS p JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_aggregate AS g ON g.aggfnoid = p.oid WHERE p.oid >= 16384""",
    # Types: ranges' parts, domains' collations.
    """SELECT 'pg_type'::regclass::oid, t.oid, n.nspname, concat_ws(', ', 'class ' || o.opcname, 'collation ' || k.collname,
        'canonical ' || nullif(r.rngcanonical::oid, 0)::regprocedure::text, 'difference ' || nullif(r.rngsubdiff::oid, 0)::regprocedure::text)
    FROM pg_range AS r JOIN pg_type AS t ON t.oid = r.rngtypid JOIN pg_namespace AS n ON n.oid = t.typnamespace JOIN pg_opclass AS o ON o.oid = r.rngsubopc
    LEFT JOIN pg_collation AS k ON k.oid = r.rngcollation WHERE t.oid >= 16384""",
    """SELECT 'pg_type'::regclass::oid, t.oid, n.nspname, 'collation ' || k.collname
    FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace JOIN pg_collation AS k ON k.oid = t.typcollation
    WHERE t.oid >= 16384 AND t.typtype = 'd'""",
    # Foreign data wrappers; values of options may be secrets elsewhere, and are told by their hash.
    """SELECT 'pg_foreign_data_wrapper'::regclass::oid, w.oid, '', concat_ws(', ', 'handler ' || nullif(w.fdwhandler, 0)::regprocedure::text,
        'validator ' || nullif(w.fdwvalidator, 0)::regprocedure::text, 'options ' || {hash array_to_string(w.fdwoptions, ', ')})
    FROM pg_foreign_data_wrapper AS w WHERE w.oid >= 16384""",
    """SELECT 'pg_conversion'::regclass::oid, k.oid, n.nspname, concat_ws(' ', pg_encoding_to_char(k.conforencoding), 'to', pg_encoding_to_char(k.contoencoding),
        'by', k.conproc::regprocedure::text, CASE WHEN k.condefault THEN 'default' END)
    FROM pg_conversion AS k JOIN pg_namespace AS n ON n.oid = k.connamespace WHERE k.oid >= 16384""",
    """SELECT 'pg_language'::regclass::oid, l.oid, '', concat_ws(', ', CASE WHEN l.lanpltrusted THEN 'trusted' END,
        'handler ' || nullif(l.lanplcallfoid, 0)::regprocedure::text,
        'inline ' || nullif(l.laninline, 0)::regprocedure::text, 'validator ' || nullif(l.lanvalidator, 0)::regprocedure::text)
    FROM pg_language AS l WHERE l.oid >= 16384""",
    # Large objects may have numbers that are below those of other objects.
    """SELECT 'pg_largeobject'::regclass::oid, x.objoid, '', 'comment ' || {hash x.description}
    FROM pg_description AS x WHERE x.classoid = 'pg_largeobject'::regclass AND x.objoid < 16384""",
)
