-- needs: lz4
-- feature: column compressed by lz4

CREATE TABLE types.compressed (id int, body text COMPRESSION lz4);
INSERT INTO types.compressed SELECT i, repeat(pg_temp.words(i, 25, 40), 10) FROM generate_series(1, 10) AS i;
