-- Everything with a body.
-- feature: views, with check option, recursive, security barrier, depending on a primary key
-- feature: materialized views, one on another, one never filled
-- feature: functions in SQL, plpgsql and SQL-standard bodies
-- feature: procedure
-- feature: aggregate
-- feature: operator
-- feature: operator class
-- feature: cast
-- feature: triggers, one disabled, one ALWAYS
-- feature: rules
-- feature: text search configuration
-- feature: conversion
-- feature: event trigger
-- feature: table access method

CREATE SCHEMA code;

CREATE FUNCTION code.full_name(public.users) RETURNS text LANGUAGE sql STABLE AS $$ SELECT concat_ws(' ', $1.first_name, $1.last_name) $$;
CREATE FUNCTION code.add_days(at timestamptz, days int DEFAULT 1, OUT moved timestamptz, OUT "day of week" int) LANGUAGE plpgsql STABLE PARALLEL SAFE COST 5
    SET "TimeZone" = 'UTC' SET search_path = pg_catalog AS $body$
BEGIN
    moved := at + days * interval '1 day';
    "day of week" := extract(isodow FROM moved);  -- a quote ' and a dollar $$ in the body
END
$body$;
CREATE FUNCTION code.organization_of(wanted uuid) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER SET search_path = '' BEGIN ATOMIC
    SELECT o.name FROM public.organizations AS o JOIN public.users AS u ON u.organization_id = o.id WHERE u.id = wanted;
END;
CREATE FUNCTION code.variadic_sum(VARIADIC numbers numeric[]) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS 'SELECT sum(n) FROM unnest($1) AS n';
CREATE FUNCTION code.variadic_sum(VARIADIC texts text[]) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT string_agg(t, '''') FROM unnest($1) AS t';
CREATE FUNCTION code.rows_of(lowest int) RETURNS TABLE (t int, plan types.plan) LANGUAGE sql STABLE ROWS 40 AS 'SELECT t.t, t.plan FROM types.t WHERE t.t >= lowest';
CREATE PROCEDURE code.touch_cache(INOUT touched int DEFAULT 0) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE odd.cache SET value = jsonb_set(value, '{hits}', '0');
    GET DIAGNOSTICS touched = ROW_COUNT;
END
$$;

CREATE FUNCTION code.keep_larger(numeric, numeric) RETURNS numeric LANGUAGE sql IMMUTABLE AS 'SELECT greatest($1, $2)';
CREATE AGGREGATE code.largest(numeric) (SFUNC = code.keep_larger, STYPE = numeric, COMBINEFUNC = code.keep_larger, INITCOND = '-1', PARALLEL = SAFE);
CREATE FUNCTION code.nearly_equal(numeric, numeric) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT abs($1 - $2) < 0.01';
CREATE OPERATOR code.~=~ (LEFTARG = numeric, RIGHTARG = numeric, FUNCTION = code.nearly_equal, COMMUTATOR = OPERATOR(code.~=~), RESTRICT = eqsel, JOIN = eqjoinsel);
CREATE FUNCTION code.street(types.address) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ($1).street';
CREATE CAST (types.address AS text) WITH FUNCTION code.street(types.address) AS ASSIGNMENT;

CREATE VIEW code.active_users WITH (security_barrier) AS
    SELECT u.id, u.email, code.full_name(u) AS name, u.organization_id FROM public.users AS u WHERE u.organization_id IS NOT NULL WITH CASCADED CHECK OPTION;
-- Grouped by the primary key alone: the view depends on a constraint that comes after the data.
CREATE VIEW code.organization_sizes AS
    SELECT o.id, o.name, o.slug, count(u.id) AS users FROM public.organizations AS o LEFT JOIN public.users AS u ON u.organization_id = o.id GROUP BY o.id;
CREATE RECURSIVE VIEW code.chain (id, name, depth) AS
    SELECT id, name, 0 FROM odd.employees WHERE manager_id = id UNION ALL
    SELECT e.id, e.name, c.depth + 1 FROM odd.employees AS e JOIN chain AS c ON e.manager_id = c.id WHERE e.id <> c.id AND c.depth < 5;
CREATE VIEW code.column_names ("Total €", "a.b") AS SELECT 1, 'x'::text;
ALTER VIEW code.active_users ALTER COLUMN email SET DEFAULT 'nobody@example.com';

CREATE MATERIALIZED VIEW code.users_per_month AS
    SELECT date_trunc('month', u.created_at, 'UTC') AS month, count(*) AS users FROM public.users AS u GROUP BY 1;
CREATE UNIQUE INDEX users_per_month_key ON code.users_per_month (month);
CREATE MATERIALIZED VIEW code.busiest_month WITH (fillfactor = 90) AS SELECT month, users FROM code.users_per_month ORDER BY users DESC, month LIMIT 1;
CREATE MATERIALIZED VIEW code.never_filled AS SELECT o.id FROM public.organizations AS o WITH NO DATA;

CREATE TABLE code.audit_log (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz, who text, what text, old jsonb, new jsonb);
INSERT INTO code.audit_log (at, who, what, old, new)
SELECT timestamptz '2024-02-01 00:00+00' + i * interval '17 minutes', 'platform_api', (ARRAY['INSERT', 'UPDATE', 'DELETE'])[1 + i % 3], NULL, jsonb_build_object('id', i)
  FROM generate_series(1, 200) AS i;
CREATE FUNCTION code.write_audit() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    INSERT INTO code.audit_log (at, who, what, old, new) VALUES (now(), session_user, TG_OP || TG_ARGV[0], to_jsonb(OLD), to_jsonb(NEW));
    RETURN NULL;
END
$$;
CREATE FUNCTION code.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'refused: %', TG_NAME; END $$;
CREATE TRIGGER "audit's" AFTER UPDATE OF email, organization_id ON public.users FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) EXECUTE FUNCTION code.write_audit(' of "users"');
CREATE TRIGGER refuse_insert BEFORE INSERT ON odd.empty FOR EACH STATEMENT EXECUTE FUNCTION code.refuse();
ALTER TABLE odd.empty DISABLE TRIGGER refuse_insert;
CREATE TRIGGER refuse_delete BEFORE DELETE ON code.audit_log FOR EACH ROW EXECUTE FUNCTION code.refuse();
ALTER TABLE code.audit_log ENABLE ALWAYS TRIGGER refuse_delete;
CREATE CONSTRAINT TRIGGER checked_late AFTER INSERT ON odd.bookings DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.room < 0) EXECUTE FUNCTION code.refuse();
CREATE TRIGGER on_partitions AFTER INSERT ON app.events REFERENCING NEW TABLE AS inserted FOR EACH STATEMENT WHEN (false) EXECUTE FUNCTION code.refuse();

CREATE RULE no_delete AS ON DELETE TO types.t DO INSTEAD NOTHING;
CREATE RULE quiet_update AS ON UPDATE TO odd.options WHERE OLD.id < 0 DO ALSO DELETE FROM odd.cache WHERE key = OLD.small;
CREATE RULE announce AS ON INSERT TO odd.empty DO ALSO NOTIFY empty_no_more;
ALTER TABLE odd.options DISABLE RULE quiet_update;

CREATE TEXT SEARCH DICTIONARY code.platform_dictionary (TEMPLATE = pg_catalog.simple, STOPWORDS = english, ACCEPT = false);
CREATE TEXT SEARCH CONFIGURATION code.platform_search (COPY = pg_catalog.english);
ALTER TEXT SEARCH CONFIGURATION code.platform_search ALTER MAPPING FOR asciiword WITH code.platform_dictionary, english_stem;
ALTER TEXT SEARCH CONFIGURATION code.platform_search DROP MAPPING FOR email;
CREATE CONVERSION code.latin_one FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;

RESET ROLE;
CREATE FUNCTION code.compare_size(int, int) RETURNS int LANGUAGE sql IMMUTABLE STRICT AS 'SELECT btint4cmp(abs($1), abs($2))';
CREATE OPERATOR FAMILY code.size_family USING btree;
CREATE OPERATOR CLASS code.size_ops FOR TYPE int USING btree FAMILY code.size_family AS
    OPERATOR 1 <, OPERATOR 2 <=, OPERATOR 3 =, OPERATOR 4 >=, OPERATOR 5 >, FUNCTION 1 code.compare_size(int, int);

CREATE FUNCTION code.watch_ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE DEBUG 'ddl: %', TG_TAG; END $$;
CREATE EVENT TRIGGER platform_watch_ddl ON ddl_command_end WHEN TAG IN ('DROP TABLE', 'ALTER TABLE') EXECUTE FUNCTION code.watch_ddl();
ALTER EVENT TRIGGER platform_watch_ddl ENABLE ALWAYS;
CREATE EVENT TRIGGER platform_watch_drop ON sql_drop EXECUTE FUNCTION code.watch_ddl();
ALTER EVENT TRIGGER platform_watch_drop DISABLE;

CREATE ACCESS METHOD platform_heap TYPE TABLE HANDLER pg_catalog.heap_tableam_handler;
CREATE TABLE code.stored_otherwise (id int, body text) USING platform_heap;
ALTER TABLE code.stored_otherwise OWNER TO platform_owner;
INSERT INTO code.stored_otherwise SELECT i, pg_temp.phrase(pg_temp.h(i, 50)) FROM generate_series(1, 10) AS i;
