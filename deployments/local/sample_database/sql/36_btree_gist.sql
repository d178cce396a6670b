-- needs: extension btree_gist
-- feature: exclusion constraint with an extension's operator class

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION btree_gist WITH SCHEMA extensions;
SET ROLE platform_owner;
CREATE TABLE odd.shifts (person int, during tstzrange, EXCLUDE USING gist (person WITH =, during WITH &&));
INSERT INTO odd.shifts SELECT i % 5, tstzrange(timestamptz '2024-01-01 00:00+00' + i * interval '1 day', timestamptz '2024-01-02 00:00+00' + i * interval '1 day') FROM generate_series(1, 20) AS i;
