-- needs: extension citext
-- feature: citext

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION citext WITH SCHEMA extensions;
SET ROLE platform_owner;
CREATE TABLE types.handles (handle extensions.citext PRIMARY KEY, others extensions.citext[]);
INSERT INTO types.handles SELECT CASE WHEN i % 2 = 0 THEN upper(p) ELSE p END || i, ARRAY[p, upper(p)]::extensions.citext[] FROM (SELECT i, pg_temp.phrase(i) AS p FROM generate_series(1, 40) AS i) AS x;
