\echo Use "CREATE EXTENSION platform_flags" to load this file. \quit
-- Rows that come with the extension are not dumped; rows that people added are.
CREATE TABLE @extschema@.flags (name text PRIMARY KEY, enabled boolean NOT NULL DEFAULT false, built_in boolean NOT NULL DEFAULT false);
INSERT INTO @extschema@.flags VALUES ('dark mode', true, true), ('beta', false, true);
CREATE SEQUENCE @extschema@.flag_change_number;
CREATE TABLE @extschema@.flag_changes (id bigint PRIMARY KEY DEFAULT nextval('@extschema@.flag_change_number'), flag text NOT NULL, at timestamptz);
CREATE FUNCTION @extschema@.flag_enabled(wanted text) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT enabled FROM @extschema@.flags WHERE name = wanted';
SELECT pg_catalog.pg_extension_config_dump('@extschema@.flags', 'WHERE NOT built_in');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.flag_changes', '');
SELECT pg_catalog.pg_extension_config_dump('@extschema@.flag_change_number', '');
