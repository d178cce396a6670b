-- Of the database itself. They rule every new session, so they come last; the names of database and roles are filled in by format().
-- feature: ALTER DATABASE SET
-- feature: ALTER ROLE IN DATABASE SET
-- feature: REVOKE CONNECT FROM PUBLIC
-- feature: comment on the database

RESET ROLE;
DO $$
DECLARE
    statement text;
BEGIN
    FOREACH statement IN ARRAY ARRAY[
        'REVOKE CONNECT, TEMPORARY ON DATABASE %I FROM PUBLIC',
        'GRANT CONNECT ON DATABASE %I TO platform_api, platform_reporting, nightshift_backup',
        'GRANT TEMPORARY ON DATABASE %I TO platform_admin WITH GRANT OPTION',
        'ALTER DATABASE %I CONNECTION LIMIT 200',
        -- What changes the text of values: a digest that does not pin these differs between two servers.
        'ALTER DATABASE %I SET "DateStyle" = ''SQL, DMY''',
        'ALTER DATABASE %I SET "IntervalStyle" = ''sql_standard''',
        'ALTER DATABASE %I SET "TimeZone" = ''Asia/Kathmandu''',
        'ALTER DATABASE %I SET bytea_output = ''escape''',
        'ALTER DATABASE %I SET extra_float_digits = 0',
        'ALTER DATABASE %I SET xmlbinary = ''hex''',
        'ALTER DATABASE %I SET xmloption = ''document''',
        -- What ends a long backup that does not lift it.
        'ALTER DATABASE %I SET statement_timeout = ''90s''',
        'ALTER DATABASE %I SET lock_timeout = ''5s''',
        'ALTER DATABASE %I SET idle_in_transaction_session_timeout = ''30s''',
        'ALTER DATABASE %I SET search_path = ''$user'', public, app',
        'ALTER DATABASE %I SET platform.motto = ''it''''s "nightly", 100%%''',
        'ALTER ROLE platform_api IN DATABASE %I SET statement_timeout = ''10s''',
        'ALTER ROLE platform_api IN DATABASE %I SET search_path = app, public',
        'ALTER ROLE nightshift_backup IN DATABASE %I SET search_path = traps, pg_catalog, public',
        'COMMENT ON DATABASE %I IS ''Sample of nightshift: the platform, and what backup tools forget. It''''s "odd".'''
    ] LOOP
        EXECUTE format(statement, current_database());
    END LOOP;
END
$$;
