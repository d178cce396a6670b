-- needs: extension hstore
-- feature: extension hstore

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION hstore WITH SCHEMA extensions;
SET ROLE platform_owner;
CREATE TABLE types.pairs (id int, pairs extensions.hstore);
INSERT INTO types.pairs SELECT i, extensions.hstore(ARRAY['a', 'b', '"c"'], ARRAY[i::text, NULL, 'it''s']) FROM generate_series(1, 20) AS i;
CREATE INDEX pairs_gin ON types.pairs USING gin (pairs);
