-- Tables that are not just rows and columns.
-- feature: generated columns
-- feature: identity columns
-- feature: sequences, descending, cycling, never called
-- feature: inheritance
-- feature: empty table
-- feature: table with no columns
-- feature: table with dropped columns
-- feature: unlogged table
-- feature: foreign keys in a cycle
-- feature: constraints that existing rows break (NOT VALID)
-- feature: exclusion constraint
-- feature: expression, partial and covering indexes
-- feature: statistics objects
-- feature: storage and table options
-- feature: invalid index left behind
-- feature: table of a composite type

CREATE SCHEMA odd;

CREATE TABLE odd.generated (
    id int GENERATED ALWAYS AS IDENTITY (START WITH 1000 INCREMENT BY 5 MINVALUE 10 CACHE 3),
    net numeric(10, 2) NOT NULL,
    gross numeric(10, 2) GENERATED ALWAYS AS (net * 1.19) STORED,
    title text,
    search tsvector GENERATED ALWAYS AS (to_tsvector('pg_catalog.english', coalesce(title, ''))) STORED,
    PRIMARY KEY (id)
);
INSERT INTO odd.generated (net, title) SELECT i * 1.25, initcap(pg_temp.words(i, 30, 3)) FROM generate_series(1, 60) AS i;

CREATE SEQUENCE odd.counting_down INCREMENT BY -2 MINVALUE -1000 MAXVALUE 100 START WITH 100;
SELECT nextval('odd.counting_down') FROM generate_series(1, 5);
CREATE SEQUENCE odd.never_called START WITH 7;
CREATE SEQUENCE odd.set_but_not_called;
SELECT setval('odd.set_but_not_called', 500, false);
CREATE SEQUENCE odd.used_up AS smallint MAXVALUE 3 CYCLE;
SELECT nextval('odd.used_up') FROM generate_series(1, 4);
CREATE SEQUENCE odd.huge CACHE 50 START WITH 9223372036854775000;
SELECT nextval('odd.huge');

CREATE TABLE odd.vehicles (id int PRIMARY KEY, wheels int DEFAULT 4, label text, CONSTRAINT rolls CHECK (wheels > 0) NO INHERIT);
CREATE TABLE odd.insured (policy text, since date DEFAULT '2024-01-01');
CREATE TABLE odd.trucks (load_tons numeric(6, 2), wheels int DEFAULT 6) INHERITS (odd.vehicles, odd.insured);
CREATE TABLE odd.sleds () INHERITS (odd.vehicles);
INSERT INTO odd.vehicles (id, label) SELECT i, 'car ' || i FROM generate_series(1, 20) AS i;
INSERT INTO odd.trucks (id, label, policy, load_tons) SELECT i, 'truck ' || i, 'P-' || i, i * 0.50 FROM generate_series(1, 15) AS i;
INSERT INTO odd.sleds (id, wheels, label) VALUES (1, 0, 'sled');

CREATE TABLE odd.empty (id bigint PRIMARY KEY, body text);
CREATE TABLE odd.no_columns ();
INSERT INTO odd.no_columns SELECT FROM generate_series(1, 3);

CREATE TABLE odd.dropped_columns (a int, gone text, b text, gone_too int, c timestamptz);
INSERT INTO odd.dropped_columns SELECT i, 'x', 'kept ' || i, i, timestamptz '2024-05-01 00:00+00' + i * interval '1 day' FROM generate_series(1, 25) AS i;
ALTER TABLE odd.dropped_columns DROP COLUMN gone, DROP COLUMN gone_too;
-- A default that old rows never stored.
ALTER TABLE odd.dropped_columns ADD COLUMN added text DEFAULT 'filled in' NOT NULL;
CREATE TABLE odd.all_dropped (a int);
INSERT INTO odd.all_dropped VALUES (1), (2);
ALTER TABLE odd.all_dropped DROP COLUMN a;

CREATE UNLOGGED TABLE odd.cache (key text PRIMARY KEY, value jsonb, serial_number serial);
INSERT INTO odd.cache (key, value) SELECT 'key:' || i, jsonb_build_object('hits', i, 'phrase', pg_temp.phrase(pg_temp.h(i, 31))) FROM generate_series(1, 30) AS i;

CREATE TABLE odd.departments (id int PRIMARY KEY, name text, head_id int);
CREATE TABLE odd.employees (id int PRIMARY KEY, name text, department_id int NOT NULL REFERENCES odd.departments, manager_id int REFERENCES odd.employees);
INSERT INTO odd.departments SELECT i, initcap(pg_temp.phrase(i)), i * 10 FROM generate_series(1, 5) AS i;
INSERT INTO odd.employees SELECT i, pg_temp.first_name(i), 1 + (i - 1) / 10, nullif(i / 10 * 10, i) FROM generate_series(10, 50) AS i WHERE i > 10 UNION ALL SELECT 10, 'Ada', 1, 10;
ALTER TABLE odd.departments ADD FOREIGN KEY (head_id) REFERENCES odd.employees DEFERRABLE INITIALLY DEFERRED;

CREATE TABLE odd.not_valid (id int, amount int, department_id int);
INSERT INTO odd.not_valid VALUES (1, -5, 1), (2, 5, 99), (3, NULL, NULL);
ALTER TABLE odd.not_valid
    ADD CONSTRAINT positive CHECK (amount > 0) NOT VALID,
    ADD CONSTRAINT department FOREIGN KEY (department_id) REFERENCES odd.departments NOT VALID;

CREATE TABLE odd.bookings (
    room int NOT NULL, during tsrange NOT NULL, spot point, cancelled boolean DEFAULT false,
    CONSTRAINT no_overlap EXCLUDE USING gist (int4range(room, room, '[]') WITH =, during WITH &&) WHERE (NOT cancelled),
    CONSTRAINT one_start UNIQUE (room, during) DEFERRABLE INITIALLY DEFERRED
);
INSERT INTO odd.bookings SELECT i % 4, tsrange(timestamp '2024-01-01' + i * interval '1 hour', timestamp '2024-01-01' + (i + 1) * interval '1 hour'), point(i, -i) FROM generate_series(1, 40) AS i;

CREATE TABLE odd.indexed (id int, a text COLLATE "C", b text, tags text[], attributes jsonb, at timestamptz, CONSTRAINT indexed_pkey PRIMARY KEY (id) INCLUDE (a));
INSERT INTO odd.indexed
SELECT i, md5(i::text), initcap(pg_temp.words(i, 32, 2)), ARRAY['t' || i % 7, 't' || i % 3], jsonb_build_object('n', i % 5), timestamptz '2024-01-01 00:00+00' + i * interval '1 minute'
  FROM generate_series(1, 300) AS i;
CREATE INDEX indexed_lower ON odd.indexed (lower(b), (id % 10) DESC NULLS LAST);
CREATE UNIQUE INDEX indexed_partial ON odd.indexed (b, id) WHERE id % 2 = 0 AND b <> '';
CREATE INDEX indexed_tags ON odd.indexed USING gin (tags);
CREATE INDEX indexed_attributes ON odd.indexed USING gin (attributes jsonb_path_ops) WITH (fastupdate = off);
CREATE INDEX indexed_at ON odd.indexed USING brin (at) WITH (pages_per_range = 8);
CREATE INDEX indexed_hash ON odd.indexed USING hash (a);
CREATE INDEX indexed_pattern ON odd.indexed (b text_pattern_ops) INCLUDE (at);
ALTER INDEX odd.indexed_lower ALTER COLUMN 1 SET STATISTICS 250;
ALTER TABLE odd.indexed CLUSTER ON indexed_pattern;
CREATE UNIQUE INDEX indexed_identity ON odd.indexed (id);
ALTER TABLE odd.indexed REPLICA IDENTITY USING INDEX indexed_identity;
CREATE STATISTICS odd.indexed_all ON a, b FROM odd.indexed;
CREATE STATISTICS odd.indexed_some (ndistinct, mcv) ON a, b, at FROM odd.indexed;
CREATE STATISTICS odd.indexed_expression ON lower(b), (id % 10) FROM odd.indexed;
ALTER STATISTICS odd.indexed_all SET STATISTICS 500;

CREATE TABLE odd.options (id int, big text, small text) WITH (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE odd.options
    ALTER big SET STORAGE EXTERNAL, ALTER small SET STORAGE PLAIN, ALTER id SET STATISTICS 5, ALTER id SET (n_distinct = -0.5),
    ALTER big SET COMPRESSION pglz;
INSERT INTO odd.options SELECT i, pg_temp.words(i, 33, 60) || repeat('.', 3000), 'small' FROM generate_series(1, 10) AS i;

CREATE TABLE odd.addresses OF types.address (street WITH OPTIONS DEFAULT 'unknown');
INSERT INTO odd.addresses VALUES ('Main St', 1, '{a}', 'free'), (DEFAULT, 2, NULL, 'business');

-- As a CREATE INDEX CONCURRENTLY that failed leaves it; pg_dump passes over it.
CREATE INDEX indexed_left_behind ON odd.indexed (at, b);
RESET ROLE;
UPDATE pg_catalog.pg_index SET indisvalid = false WHERE indexrelid = 'odd.indexed_left_behind'::regclass;
