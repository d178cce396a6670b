-- Names of pg_catalog, in another schema. The backup role's own search_path in this database (80_settings.sql) puts them before pg_catalog: a query that
-- neither qualifies its names nor pins search_path gets these, and an "all is well" that is not.
-- feature: functions, aggregates, operators, types and tables that shadow pg_catalog
-- feature: function whose body depends on search_path

CREATE SCHEMA traps;

CREATE FUNCTION traps.now() RETURNS timestamptz LANGUAGE sql STABLE AS $$ SELECT timestamptz '1999-12-31 00:00+00' $$;
CREATE FUNCTION traps.lower(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT pg_catalog.upper($1)';
CREATE FUNCTION traps.current_setting(text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT 'trap'::text $$;
CREATE FUNCTION traps.hash_record_extended(record, bigint) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS 'BEGIN RETURN 0; END';
CREATE FUNCTION traps.hashint8extended(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint';
CREATE FUNCTION traps.always_zero(bigint, bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint';
CREATE FUNCTION traps.always_zero(bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint';
CREATE AGGREGATE traps.count(*) (SFUNC = traps.always_zero, STYPE = bigint, INITCOND = '0');
CREATE AGGREGATE traps.sum(bigint) (SFUNC = traps.always_zero, STYPE = bigint, INITCOND = '0');
CREATE FUNCTION traps.never(text, text) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT false';
CREATE OPERATOR traps.= (LEFTARG = text, RIGHTARG = text, FUNCTION = traps.never);
CREATE DOMAIN traps.uuid AS text;
CREATE DOMAIN traps.int8 AS text;

CREATE TABLE traps.pg_class (oid oid, relname name, relkind "char");
INSERT INTO traps.pg_class VALUES (1, 'not a table', 'r');
CREATE TABLE traps.pg_database (datname name);
CREATE VIEW traps.pg_roles AS SELECT 'nobody'::name AS rolname;
CREATE VIEW traps.pg_stat_activity AS SELECT 0 AS pid, 'quiet'::text AS state;
-- Later in the path than pg_catalog, so a trap only to whoever takes the table's name for the catalogue's.
CREATE TABLE public.pg_class (id int PRIMARY KEY, note text);
INSERT INTO public.pg_class VALUES (1, 'A table of ours, named like a system catalogue.');
CREATE TABLE public.information_schema (id int);

-- Two tables of one name; which one a caller gets is the caller's search_path.
CREATE TABLE traps.settings (value text);
INSERT INTO traps.settings VALUES ('trap');
CREATE TABLE public.settings (value text);
INSERT INTO public.settings VALUES ('platform');
SET LOCAL search_path = public, pg_catalog;
CREATE FUNCTION public.current_value() RETURNS text LANGUAGE sql STABLE AS 'SELECT value FROM settings';
CREATE VIEW public.current_values AS SELECT current_value() AS called, s.value AS bound, lower(s.value) AS lowered, count(*) AS rows FROM settings AS s GROUP BY s.value;
SET LOCAL search_path = traps, public, pg_catalog;
-- Bound to the shadows; only a dump that qualifies them brings them back.
CREATE VIEW public.shadowed AS SELECT lower(s.value) AS lowered, count(*) AS rows, now() AS at FROM public.settings AS s GROUP BY s.value;
RESET search_path;
