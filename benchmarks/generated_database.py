"""A database for measuring: one tenant platform's activity, most of it foreign keys, times and small JSON documents, as such databases are."""

import psycopg

# What a row takes in a dump, measured; the size asked for is met within a few percent.
BYTES_PER_ROW = 327

_SCHEMA = """
CREATE SCHEMA bench;
CREATE TABLE bench.activity (
    id bigint GENERATED ALWAYS AS IDENTITY,
    organization_id uuid NOT NULL, project_id uuid NOT NULL, user_id uuid NOT NULL, task_id uuid,
    kind text NOT NULL, path text NOT NULL, detail jsonb NOT NULL, created_at timestamptz NOT NULL
);
"""
# Deterministic: hashes of the row's number stand in for chance. Some users and projects are busier than others (the square makes them so).
_FILL = """
INSERT INTO bench.activity (organization_id, project_id, user_id, task_id, kind, path, detail, created_at)
SELECT md5('o' || (p %% 300))::uuid, md5('p' || p)::uuid, md5('u' || u)::uuid,
       CASE WHEN n %% 5 > 0 THEN md5('t' || (n / 7))::uuid END,
       (ARRAY['page_view','task_created','task_moved','comment_added','login','export_started'])[1 + h %% 6],
       '/api/v1/projects/' || p || (ARRAY['/tasks','/comments','/members','/files'])[1 + h %% 4],
       jsonb_build_object('status', (ARRAY[200,200,200,201,304,404,500])[1 + h %% 7], 'duration_ms', h %% 900,
                          'agent', 'Mozilla/5.0 (X11; Linux x86_64) Chrome/' || (100 + h %% 25) || '.0.0.0', 'request', md5(n::text)),
       timestamptz '2026-01-01' + n * interval '211 milliseconds'
FROM (SELECT n, abs(hashint8(n)) AS h, (power(abs(hashint8extended(n, 1)::numeric) / 9223372036854775808, 2) * 4000)::int AS p,
             (power(abs(hashint8extended(n, 2)::numeric) / 9223372036854775808, 2) * 20000)::int AS u
      FROM generate_series(1, %(rows)s::bigint) AS n) AS chance
"""


def generate(conninfo: str, *, size_bytes: int) -> int:
    """Given an administrator's connection string and how large a plain dump is to be, fill a schema `bench` and return its rows."""
    rows = max(1000, size_bytes // BYTES_PER_ROW)
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute(_SCHEMA)
        connection.execute(_FILL, {"rows": rows})
        connection.execute("ALTER TABLE bench.activity ADD PRIMARY KEY (id)")
        connection.execute("VACUUM (ANALYZE) bench.activity")
    return rows
