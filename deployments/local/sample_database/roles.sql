-- The roles of the sample, for the whole cluster. The loader runs this when none of them is there; it gives the backup role its password.

CREATE ROLE platform_owner NOLOGIN;
CREATE ROLE platform_admin NOLOGIN CREATEROLE;
CREATE ROLE platform_reader NOLOGIN;
CREATE ROLE platform_writer NOLOGIN;
CREATE ROLE platform_api LOGIN CONNECTION LIMIT 50;
CREATE ROLE platform_reporting LOGIN NOINHERIT VALID UNTIL '2099-03-04 12:00:00+00';
CREATE ROLE "Platform Ops" NOLOGIN;
CREATE ROLE nightshift_backup LOGIN NOSUPERUSER BYPASSRLS CONNECTION LIMIT 20;

GRANT platform_reader TO platform_writer, platform_reporting;
GRANT platform_writer TO platform_api;
GRANT platform_admin TO "Platform Ops" WITH ADMIN OPTION;
GRANT platform_owner TO platform_admin;
GRANT "Platform Ops" TO platform_reporting;
GRANT pg_monitor TO platform_reporting;
GRANT pg_read_all_data TO nightshift_backup;

ALTER ROLE platform_api SET statement_timeout = '15s';
ALTER ROLE platform_reporting SET default_transaction_read_only = on;
ALTER ROLE platform_reporting SET search_path = public, "Sales & Orders";
ALTER ROLE nightshift_backup SET default_transaction_read_only = on;

COMMENT ON ROLE platform_owner IS 'nightshift sample: owns the database and its objects';
COMMENT ON ROLE platform_admin IS 'nightshift sample: manages roles';
COMMENT ON ROLE platform_reader IS 'nightshift sample: reads';
COMMENT ON ROLE platform_writer IS 'nightshift sample: writes';
COMMENT ON ROLE platform_api IS 'nightshift sample: the api server';
COMMENT ON ROLE platform_reporting IS 'nightshift sample: reports; reads only';
COMMENT ON ROLE "Platform Ops" IS 'nightshift sample: a name that needs quoting';
COMMENT ON ROLE nightshift_backup IS 'nightshift sample: dumps everything, writes nothing';
