-- needs: version 17
-- feature: infinite intervals
-- feature: identity column of a partitioned table
-- feature: MAINTAIN privilege
-- feature: collation of the built-in provider
-- feature: transaction time-out of the database

CREATE TABLE types.endless (id int, span interval);
INSERT INTO types.endless VALUES (1, 'infinity'), (2, '-infinity');
CREATE TABLE app.numbered (id bigint GENERATED ALWAYS AS IDENTITY, region text, PRIMARY KEY (id, region)) PARTITION BY LIST (region);
CREATE TABLE app.numbered_eu PARTITION OF app.numbered FOR VALUES IN ('eu');
INSERT INTO app.numbered (region) SELECT 'eu' FROM generate_series(1, 10);
GRANT MAINTAIN ON app.events TO platform_writer;
CREATE COLLATION types.code_points (PROVIDER = builtin, LOCALE = 'C.UTF-8');
CREATE TABLE types.pointed (id int, body text COLLATE types.code_points);
INSERT INTO types.pointed VALUES (1, 'Ä'), (2, 'a');
RESET ROLE;
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET transaction_timeout = ''10min''', current_database()); END $$;
