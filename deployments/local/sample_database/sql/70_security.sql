-- feature: roles with limits, expiry, settings and memberships
-- feature: row level security, enabled and forced
-- feature: grants with grant option, granted onwards
-- feature: column grants
-- feature: REVOKE from PUBLIC and from the owner
-- feature: default privileges
-- feature: grant on a function of pg_catalog
-- feature: publications
-- feature: comments

CREATE TABLE app.api_keys (id int PRIMARY KEY, organization_id uuid, name text, key_hash bytea);
INSERT INTO app.api_keys SELECT i, pg_temp.id_of('organization', 1 + i % pg_temp.organization_count()), pg_temp.phrase(pg_temp.h(i, 70)), decode(md5(i::text), 'hex') FROM generate_series(1, 50) AS i;
ALTER TABLE app.api_keys ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
ALTER TABLE app.documents ENABLE ROW LEVEL SECURITY;
CREATE FUNCTION app.current_organization() RETURNS uuid LANGUAGE sql STABLE SET search_path = pg_catalog AS $$ SELECT nullif(current_setting('platform.organization', true), '')::uuid $$;
CREATE POLICY own_organization ON app.documents TO platform_api USING (organization_id = app.current_organization()) WITH CHECK (author_id IS NOT NULL);
CREATE POLICY "not the archive" ON app.documents AS RESTRICTIVE FOR DELETE TO PUBLIC USING (created_at > '2023-01-01 00:00+00');
CREATE POLICY own_keys ON app.api_keys FOR SELECT USING (organization_id = app.current_organization());
-- On, with no policy at all: everybody but the owner sees no rows.
CREATE TABLE app.sealed (id int, secret text);
INSERT INTO app.sealed SELECT i, md5(i::text) FROM generate_series(1, 10) AS i;
ALTER TABLE app.sealed ENABLE ROW LEVEL SECURITY;

REVOKE ALL ON SCHEMA app, code, types, odd FROM PUBLIC;
GRANT USAGE ON SCHEMA public, app, code, types TO platform_reader, platform_writer;
GRANT CREATE ON SCHEMA app TO platform_admin WITH GRANT OPTION;
GRANT SELECT ON ALL TABLES IN SCHEMA public, app TO platform_reader;
GRANT INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public, app TO platform_writer;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA app TO platform_writer;
REVOKE ALL ON app.api_keys, app.sealed FROM platform_reader, platform_writer;
GRANT SELECT (id, name), UPDATE (name) ON app.api_keys TO platform_reader;
GRANT SELECT (email) ON public.users TO PUBLIC;
GRANT ALL ON TABLE public.organizations TO platform_admin WITH GRANT OPTION;
REVOKE TRUNCATE ON app.sealed FROM platform_owner;
REVOKE EXECUTE ON FUNCTION code.organization_of(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION code.organization_of(uuid) TO platform_api;
REVOKE USAGE ON TYPE types.plan FROM PUBLIC;
GRANT USAGE ON TYPE types.plan, types.percentage TO platform_writer;

ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner IN SCHEMA app GRANT SELECT ON TABLES TO platform_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner IN SCHEMA app GRANT USAGE ON SEQUENCES TO platform_writer WITH GRANT OPTION;
ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner GRANT USAGE ON TYPES TO "Platform Ops";

-- Granted by another than the owner: pg_dump switches the session's user for it.
SET ROLE platform_admin;
GRANT SELECT, UPDATE (name) ON TABLE public.organizations TO "Platform Ops" WITH GRANT OPTION;
RESET ROLE;
SET ROLE platform_owner;

CREATE PUBLICATION "Platform changes" FOR TABLE public.users, public.organizations, app.invoices WITH (publish = 'insert, update');
-- No primary key and published: an UPDATE of it is refused until a replica identity is given.
CREATE PUBLICATION platform_audit FOR TABLE code.audit_log;
RESET ROLE;
CREATE PUBLICATION platform_inserts FOR ALL TABLES WITH (publish = 'insert');
GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_waldir() TO platform_reporting;
REVOKE EXECUTE ON FUNCTION pg_catalog.pg_database_size(name) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION pg_catalog.pg_database_size(name) TO platform_reader;
REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC;
GRANT USAGE ON LANGUAGE plpgsql TO platform_owner, platform_writer;

COMMENT ON SCHEMA app IS 'What the platform''s own code writes. "Quoted", with a \backslash, 表 and
a line break.';
COMMENT ON TABLE public.users IS 'People who can sign in';
COMMENT ON COLUMN public.users.email IS 'Lower case; unique';
COMMENT ON CONSTRAINT users_email_unique ON public.users IS 'One account for each address';
COMMENT ON INDEX public.users_organization_id_index IS 'For the list of members';
COMMENT ON TRIGGER "audit's" ON public.users IS 'trigger';
COMMENT ON RULE no_delete ON types.t IS 'rule';
COMMENT ON POLICY own_organization ON app.documents IS 'policy';
COMMENT ON FUNCTION code.variadic_sum(numeric[]) IS 'function';
COMMENT ON AGGREGATE code.largest(numeric) IS 'aggregate';
COMMENT ON OPERATOR code.~=~ (numeric, numeric) IS 'operator';
COMMENT ON CAST (types.address AS text) IS 'cast';
COMMENT ON TYPE types.plan IS 'type';
COMMENT ON DOMAIN types.percentage IS 'domain';
COMMENT ON CONSTRAINT within_bounds ON DOMAIN types.percentage IS 'domain constraint';
COMMENT ON VIEW code.active_users IS 'view';
COMMENT ON COLUMN code.active_users.name IS 'column of a view';
COMMENT ON MATERIALIZED VIEW code.users_per_month IS 'materialized view';
COMMENT ON SEQUENCE odd.counting_down IS 'sequence';
COMMENT ON STATISTICS odd.indexed_all IS 'statistics';
COMMENT ON PUBLICATION platform_audit IS 'publication';
COMMENT ON EVENT TRIGGER platform_watch_ddl IS 'event trigger';
COMMENT ON EXTENSION plpgsql IS 'The comment of an extension, changed';
