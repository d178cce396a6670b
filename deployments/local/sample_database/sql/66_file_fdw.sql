-- needs: extension file_fdw
-- feature: foreign table of a file

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION file_fdw WITH SCHEMA extensions;
CREATE SERVER files FOREIGN DATA WRAPPER file_fdw;
CREATE FOREIGN TABLE app.access_log (line text) SERVER files OPTIONS (filename '/var/log/platform/access.log', format 'text');
ALTER FOREIGN TABLE app.access_log OWNER TO platform_owner;
