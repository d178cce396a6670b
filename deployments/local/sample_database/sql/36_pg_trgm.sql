-- needs: extension pg_trgm
-- feature: extension pg_trgm, its operator class in an index, a grant on its function

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION pg_trgm WITH SCHEMA extensions;
REVOKE EXECUTE ON FUNCTION extensions.show_trgm(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION extensions.show_trgm(text) TO platform_reader;
SET ROLE platform_owner;
CREATE INDEX indexed_trigrams ON odd.indexed USING gin (b extensions.gin_trgm_ops);
