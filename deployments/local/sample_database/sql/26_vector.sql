-- needs: extension vector
-- feature: extension vector

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION vector WITH SCHEMA extensions;
SET ROLE platform_owner;
CREATE TABLE types.embeddings (id int PRIMARY KEY, embedding extensions.vector(3));
INSERT INTO types.embeddings SELECT i, format('[%s,%s,%s]', i, i * 0.5, -i)::extensions.vector FROM generate_series(1, 50) AS i;
CREATE INDEX embeddings_near ON types.embeddings USING hnsw (embedding extensions.vector_l2_ops);
