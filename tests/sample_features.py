# ruff: noqa: E501 - one query a feature reads better unbroken
"""What stands for each feature of the sample database: a query of the catalogues or the data that is true only when it is there."""

FEATURES: dict[str, str] = {
    "organizations and users": """SELECT (SELECT array_agg(column_name::text ORDER BY column_name::text) FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = 'organizations') = '{created_at,domain,id,logo_url,name,slug,updated_at}'
        AND (SELECT array_agg(column_name::text ORDER BY column_name::text) FROM information_schema.columns
            WHERE table_schema = 'public' AND table_name = 'users') = '{created_at,email,first_name,id,last_name,organization_id,updated_at}'
        AND (SELECT count(*) FROM pg_constraint WHERE conrelid IN ('public.organizations'::regclass, 'public.users'::regclass) AND contype IN ('p', 'u', 'f')) = 6
        AND (SELECT count(*) FROM public.users) = 300""",
    "knex migration tables": "SELECT (SELECT is_locked FROM public.knex_migrations_lock) = 0 AND (SELECT count(*) FROM public.knex_migrations) = 1",
    "enum with a value added in between": """SELECT enum_range(NULL::types.plan)::text = '{free,team,business,enterprise,"it''s \\"custom\\""}'
        AND EXISTS (SELECT FROM pg_enum WHERE enumsortorder::numeric % 1 <> 0)""",
    "composite type": 'SELECT EXISTS (SELECT FROM types.collections WHERE (at_home)."house no." = 1) OR (SELECT count(home) FROM types.collections) = 2',
    "domain": "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'types.numbers'::regclass AND atttypid = 'types.percentage'::regtype)",
    "domain over an array": "SELECT typbasetype = 'int[]'::regtype FROM pg_type WHERE oid = 'types.short_list'::regtype",
    "range type of our own, with its multirange": "SELECT (SELECT prices::text FROM types.collections WHERE id = 1) = '{[1.10,2.0),[3,4]}'",
    "numeric with trailing zeros and NaN": "SELECT (SELECT array_agg(exact::text ORDER BY id) FROM types.numbers WHERE id < 6) = '{1.10,1.1,1.1000000,NaN,Infinity}'",
    "interval": "SELECT (SELECT count(DISTINCT span) < count(DISTINCT span::text) FROM types.times)",
    "json and jsonb": 'SELECT (SELECT as_json::text = \'{"b": 1, "a": 2,  "a": 3}\' AND as_jsonb::text = \'{"a": 3, "b": 1}\' FROM types.documents WHERE id = 1)',
    "arrays": "SELECT (SELECT array_lower(shifted, 1) = 0 AND array_ndims(nested) = 2 AND plain[3] IS NULL FROM types.collections WHERE id = 1)",
    "ranges": "SELECT (SELECT isempty(ints) AND nums::text = '(,)' FROM types.collections WHERE id = 2)",
    "multiranges": "SELECT (SELECT many::text = '{[1,3),[5,8)}' FROM types.collections WHERE id = 1)",
    "bytea": "SELECT (SELECT raw = '\\x00ff5c0a0d09'::bytea FROM types.others WHERE id = 2)",
    "regclass and other reg* columns": """SELECT (SELECT count(*) = 11 FROM pg_attribute WHERE attrelid = 'types.references_to_catalogue'::regclass AND attnum > 0)
        AND (SELECT relation = 'public.users'::regclass FROM types.references_to_catalogue WHERE id = 1)""",
    "column named t": "SELECT (SELECT count(*) = 40 FROM types.t AS t WHERE t > 0)",
    "float, money, network, bit, geometric, text search and date edges": """SELECT (SELECT single = 'NaN' FROM types.numbers WHERE id = 2)
        AND (SELECT day = 'infinity' AND clock_zone IS NOT NULL FROM types.times WHERE id = 2) AND (SELECT count(dot) = 2 FROM types.others)""",
    "text that COPY must escape": "SELECT (SELECT body = E'\\\\.\\n\\\\.\\n' FROM types.texts WHERE id = 3)",
    "nondeterministic collation": "SELECT EXISTS (SELECT FROM pg_attribute AS a JOIN pg_collation AS c ON c.oid = a.attcollation WHERE attrelid = 'types.collated'::regclass AND NOT collisdeterministic)",
    "column compressed by lz4": "SELECT attcompression = 'l' FROM pg_attribute WHERE attrelid = 'types.compressed'::regclass AND attname = 'body'",
    "xml": "SELECT (SELECT body IS DOCUMENT FROM types.markup WHERE id = 1)",
    "citext": "SELECT format_type(atttypid, NULL) = 'extensions.citext' FROM pg_attribute WHERE attrelid = 'types.handles'::regclass AND attname = 'handle'",
    "extension hstore": "SELECT (SELECT count(pairs) = 20 FROM types.pairs)",
    "extension vector": "SELECT (SELECT count(embedding) = 50 FROM types.embeddings)",
    "generated columns": "SELECT (SELECT bool_and(gross = round(net * 1.19, 2)) FROM odd.generated)",
    "identity columns": "SELECT (SELECT array_agg(DISTINCT attidentity::text ORDER BY attidentity::text) = '{a,d}' FROM pg_attribute WHERE attidentity <> '' AND attnum > 0)",
    "sequences, descending, cycling, never called": """SELECT (SELECT last_value = 92 AND is_called FROM odd.counting_down) AND (SELECT NOT is_called FROM odd.never_called)
        AND (SELECT last_value = 500 AND NOT is_called FROM odd.set_but_not_called) AND (SELECT seqcycle FROM pg_sequence WHERE seqrelid = 'odd.used_up'::regclass)""",
    "inheritance": "SELECT (SELECT count(*) FROM ONLY odd.vehicles) = 20 AND (SELECT count(*) FROM odd.vehicles) = 36 AND (SELECT count(*) = 2 FROM pg_inherits WHERE inhrelid = 'odd.trucks'::regclass)",
    "empty table": "SELECT (SELECT count(*) = 0 FROM odd.empty)",
    "table with no columns": "SELECT (SELECT count(*) = 3 FROM odd.no_columns) AND NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'odd.no_columns'::regclass AND attnum > 0)",
    "table with dropped columns": "SELECT (SELECT count(*) = 2 FROM pg_attribute WHERE attrelid = 'odd.dropped_columns'::regclass AND attisdropped)",
    "unlogged table": "SELECT (SELECT relpersistence = 'u' FROM pg_class WHERE oid = 'odd.cache'::regclass) AND (SELECT count(*) = 30 FROM odd.cache)",
    "foreign keys in a cycle": """SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'odd.departments'::regclass AND confrelid = 'odd.employees'::regclass)
        AND EXISTS (SELECT FROM pg_constraint WHERE confrelid = 'odd.departments'::regclass AND conrelid = 'odd.employees'::regclass)""",
    "constraints that existing rows break (NOT VALID)": "SELECT (SELECT count(*) = 2 FROM pg_constraint WHERE conrelid = 'odd.not_valid'::regclass AND NOT convalidated) AND (SELECT min(amount) < 0 FROM odd.not_valid)",
    "exclusion constraint": "SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'x' AND conrelid = 'odd.bookings'::regclass)",
    "expression, partial and covering indexes": """SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = 'odd.indexed'::regclass AND indexprs IS NOT NULL)
        AND EXISTS (SELECT FROM pg_index WHERE indrelid = 'odd.indexed'::regclass AND indpred IS NOT NULL) AND EXISTS (SELECT FROM pg_index WHERE indrelid = 'odd.indexed'::regclass AND indnatts > indnkeyatts)""",
    "statistics objects": "SELECT (SELECT count(*) = 3 FROM pg_statistic_ext WHERE stxrelid = 'odd.indexed'::regclass)",
    "storage and table options": "SELECT (SELECT 'fillfactor=70' = ANY (reloptions) FROM pg_class WHERE oid = 'odd.options'::regclass)",
    "invalid index left behind": "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'odd.indexed_left_behind'::regclass",
    "table of a composite type": "SELECT reloftype = 'types.address'::regtype FROM pg_class WHERE oid = 'odd.addresses'::regclass",
    "partitions by range and list, sub-partitions, default partition": """SELECT (SELECT count(*) = 9 FROM pg_partition_tree('app.events') WHERE isleaf OR level = 1)
        AND (SELECT count(*) > 0 FROM app.events_rest) AND (SELECT count(*) > 0 FROM app.events_2024_q2_rest) AND (SELECT count(*) = 900 FROM app.events)""",
    "partition with columns in another order": "SELECT attnum = 1 FROM pg_attribute WHERE attrelid = 'app.events_2024_q3'::regclass AND attname = 'properties'",
    "partition in another schema": "SELECT relispartition FROM pg_class WHERE oid = 'archive.events_2023'::regclass",
    "index on a partitioned table only": "SELECT NOT indisvalid FROM pg_index WHERE indexrelid = 'app.events_kind_only'::regclass",
    "hash partitions by enum": "SELECT (SELECT partstrat = 'h' FROM pg_partitioned_table WHERE partrelid = 'app.plan_changes'::regclass) AND (SELECT count(*) = 100 FROM app.plan_changes)",
    "exclusion constraint with an extension's operator class": "SELECT EXISTS (SELECT FROM pg_constraint WHERE contype = 'x' AND conrelid = 'odd.shifts'::regclass)",
    "extension pg_trgm, its operator class in an index, a grant on its function": "SELECT to_regclass('odd.indexed_trigrams') IS NOT NULL",
    "names with blanks, quotes, dots, unicode, upper case, line breaks, 63 bytes and key words": """SELECT (SELECT count(*) = 7 FROM pg_class WHERE relnamespace = '"Sales & Orders"'::regnamespace AND relkind = 'r')
        AND EXISTS (SELECT FROM pg_class WHERE relname LIKE E'%\\n%') AND EXISTS (SELECT FROM pg_class WHERE octet_length(relname) = 63 AND relname LIKE 'as_long%')""",
    "schema names that are patterns to pg_dump": "SELECT count(*) = 4 FROM pg_namespace WHERE nspname IN ('audit*', 'auditing', 'a|b?[c].d', 'APP')",
    "views, with check option, recursive, security barrier, depending on a primary key": """SELECT (SELECT count(*) = 300 - 6 FROM code.active_users) AND (SELECT max(depth) > 0 FROM code.chain)
        AND (SELECT sum(users) = 300 - 6 FROM code.organization_sizes)""",
    "materialized views, one on another, one never filled": "SELECT (SELECT count(*) = 1 FROM code.busiest_month) AND (SELECT NOT relispopulated FROM pg_class WHERE oid = 'code.never_filled'::regclass)",
    "functions in SQL, plpgsql and SQL-standard bodies": "SELECT (SELECT count(DISTINCT prolang) >= 2 FROM pg_proc WHERE pronamespace = 'code'::regnamespace) AND EXISTS (SELECT FROM pg_proc WHERE prosqlbody IS NOT NULL AND pronamespace = 'code'::regnamespace)",
    "procedure": "SELECT prokind = 'p' FROM pg_proc WHERE oid = 'code.touch_cache'::regproc",
    "aggregate": "SELECT (SELECT code.largest(net) = 75 FROM odd.generated)",
    "operator": "SELECT 1.001 OPERATOR(code.~=~) 1.002",
    "operator class": "SELECT EXISTS (SELECT FROM pg_opclass WHERE opcname = 'size_ops')",
    "cast": "SELECT EXISTS (SELECT FROM pg_cast WHERE castsource = 'types.address'::regtype)",
    "triggers, one disabled, one ALWAYS": "SELECT array_agg(DISTINCT tgenabled::text ORDER BY tgenabled::text) = '{A,D,O}' FROM pg_trigger WHERE NOT tgisinternal",
    "rules": "SELECT count(*) >= 3 FROM pg_rewrite WHERE rulename <> '_RETURN' AND ev_class IN ('types.t'::regclass, 'odd.options'::regclass, 'odd.empty'::regclass)",
    "text search configuration": "SELECT to_tsvector('code.platform_search', 'the running') IS NOT NULL",
    "conversion": "SELECT EXISTS (SELECT FROM pg_conversion WHERE conname = 'latin_one')",
    "event trigger": "SELECT count(*) = 2 FROM pg_event_trigger",
    "table access method": "SELECT amname = 'platform_heap' FROM pg_am AS a JOIN pg_class AS c ON c.relam = a.oid WHERE c.oid = 'code.stored_otherwise'::regclass",
    "functions, aggregates, operators, types and tables that shadow pg_catalog": """SELECT (SELECT count(*) > 5 FROM pg_proc AS p WHERE pronamespace = 'traps'::regnamespace
            AND EXISTS (SELECT FROM pg_proc AS q WHERE q.proname = p.proname AND q.pronamespace = 'pg_catalog'::regnamespace))
        AND to_regclass('traps.pg_class') IS NOT NULL AND to_regclass('public.pg_class') IS NOT NULL""",
    "function whose body depends on search_path": "SELECT proconfig IS NULL FROM pg_proc WHERE oid = 'public.current_value'::regproc",
    "large objects with owners, grants and comments": """SELECT (SELECT count(*) = 4 FROM pg_largeobject_metadata AS m JOIN pg_roles AS r ON r.oid = lomowner AND rolname = 'platform_owner' WHERE lomacl IS NOT NULL)
        AND octet_length(lo_get(900002)) = 320000 AND octet_length(lo_get(900000)) = 0""",
    "foreign table": "SELECT relkind = 'f' FROM pg_class WHERE oid = 'app.warehouse_facts'::regclass",
    "foreign server with user mapping": "SELECT count(*) = 2 FROM pg_user_mappings WHERE srvname = 'Data Warehouse'",
    "foreign table of a file": "SELECT relkind = 'f' FROM pg_class WHERE oid = 'app.access_log'::regclass",
    "foreign table of another PostgreSQL": "SELECT relkind = 'f' FROM pg_class WHERE oid = 'app.billing_accounts'::regclass",
    "extension with configuration tables, part of whose rows is dumped": "SELECT cardinality(extconfig) = 3 AND (SELECT count(*) = 27 FROM extensions.flags) FROM pg_extension WHERE extname = 'platform_flags'",
    "roles with limits, expiry, settings and memberships": """SELECT (SELECT rolvaliduntil IS NOT NULL AND rolconfig IS NOT NULL FROM pg_roles WHERE rolname = 'platform_reporting')
        AND EXISTS (SELECT FROM pg_auth_members WHERE admin_option AND roleid = 'platform_admin'::regrole)""",
    "row level security, enabled and forced": """SELECT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = 'app.api_keys'::regclass)
        AND (SELECT relrowsecurity AND NOT relforcerowsecurity FROM pg_class WHERE oid = 'app.documents'::regclass) AND (SELECT count(*) = 3 FROM pg_policy)""",
    "grants with grant option, granted onwards": "SELECT EXISTS (SELECT FROM pg_class, aclexplode(relacl) AS a WHERE oid = 'public.organizations'::regclass AND a.grantor = 'platform_admin'::regrole AND a.is_grantable)",
    "column grants": "SELECT EXISTS (SELECT FROM pg_attribute WHERE attrelid = 'app.api_keys'::regclass AND attacl IS NOT NULL)",
    "REVOKE from PUBLIC and from the owner": "SELECT NOT has_table_privilege('platform_owner', 'app.sealed', 'TRUNCATE') AND NOT has_function_privilege('platform_reader', 'code.organization_of(uuid)', 'EXECUTE')",
    "default privileges": "SELECT count(*) >= 4 FROM pg_default_acl",
    "grant on a function of pg_catalog": """SELECT has_function_privilege('platform_reporting', 'pg_catalog.pg_ls_waldir()', 'EXECUTE') AND has_function_privilege('platform_reader', 'pg_database_size(name)', 'EXECUTE')
        AND NOT has_function_privilege('platform_owner', 'pg_database_size(name)', 'EXECUTE')""",
    "publications": "SELECT count(*) >= 3 AND bool_or(puballtables) FROM pg_publication",
    "comments": "SELECT count(DISTINCT d.classoid) >= 14 FROM pg_description AS d WHERE d.objoid >= 16384",
    "publication with columns, a row filter and a schema": "SELECT EXISTS (SELECT FROM pg_publication_rel WHERE prqual IS NOT NULL AND prattrs IS NOT NULL) AND EXISTS (SELECT FROM pg_publication_namespace)",
    "unique constraint with NULLS NOT DISTINCT": "SELECT indnullsnotdistinct FROM pg_index WHERE indexrelid = 'app.links_unique'::regclass",
    "view with the caller's rights": "SELECT 'security_invoker=true' = ANY (reloptions) FROM pg_class WHERE oid = 'code.own_documents'::regclass",
    "unlogged sequence": "SELECT relpersistence = 'u' FROM pg_class WHERE oid = 'odd.unlogged_sequence'::regclass",
    "grant on a parameter": "SELECT has_parameter_privilege('platform_reporting', 'log_min_duration_statement', 'SET')",
    "infinite intervals": "SELECT (SELECT count(*) = 2 FROM types.endless WHERE NOT isfinite(span))",
    "identity column of a partitioned table": "SELECT attidentity = 'a' FROM pg_attribute WHERE attrelid = 'app.numbered'::regclass AND attname = 'id'",
    "MAINTAIN privilege": "SELECT has_table_privilege('platform_writer', 'app.events', 'MAINTAIN')",
    "collation of the built-in provider": "SELECT EXISTS (SELECT FROM pg_collation WHERE collname = 'code_points' AND collprovider = 'b')",
    "transaction time-out of the database": "SELECT EXISTS (SELECT FROM pg_db_role_setting, unnest(setconfig) AS s WHERE s = 'transaction_timeout=10min')",
    "virtual generated column": "SELECT attgenerated = 'v' FROM pg_attribute WHERE attrelid = 'odd.virtual'::regclass AND attname = 'doubled'",
    "temporal primary and foreign keys": "SELECT count(*) = 2 FROM pg_constraint WHERE conperiod",
    "constraints not enforced, NOT NULL not valid": "SELECT count(*) = 2 FROM pg_constraint WHERE conrelid = 'odd.not_enforced'::regclass AND NOT convalidated",
    "default privileges on large objects": "SELECT EXISTS (SELECT FROM pg_default_acl WHERE defaclobjtype = 'L')",
    "ALTER DATABASE SET": "SELECT 'DateStyle=SQL, DMY' = ANY (setconfig) FROM pg_db_role_setting WHERE setrole = 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "ALTER ROLE IN DATABASE SET": "SELECT count(*) = 2 FROM pg_db_role_setting WHERE setrole <> 0 AND setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())",
    "REVOKE CONNECT FROM PUBLIC": "SELECT NOT has_database_privilege('platform_reader', current_database(), 'CONNECT') AND has_database_privilege('nightshift_backup', current_database(), 'CONNECT')",
    "comment on the database": "SELECT shobj_description(oid, 'pg_database') LIKE 'Sample%' FROM pg_database WHERE datname = current_database()",
}
