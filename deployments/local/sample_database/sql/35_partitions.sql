-- feature: partitions by range and list, sub-partitions, default partition
-- feature: partition with columns in another order
-- feature: partition in another schema
-- feature: index on a partitioned table only
-- feature: hash partitions by enum

CREATE SCHEMA app;
CREATE SCHEMA archive;

CREATE TABLE app.events (
    id bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    kind text NOT NULL,
    user_id uuid,
    message text,
    properties jsonb,
    CONSTRAINT kind_named CHECK (kind <> '')
) PARTITION BY RANGE (occurred_at);
CREATE TABLE archive.events_2023 PARTITION OF app.events FOR VALUES FROM (MINVALUE) TO ('2024-01-01 00:00+00');
CREATE TABLE app.events_2024_q1 PARTITION OF app.events FOR VALUES FROM ('2024-01-01 00:00+00') TO ('2024-04-01 00:00+00');
CREATE TABLE app.events_2024_q2 PARTITION OF app.events FOR VALUES FROM ('2024-04-01 00:00+00') TO ('2024-07-01 00:00+00') PARTITION BY LIST (kind);
CREATE TABLE app.events_2024_q2_web PARTITION OF app.events_2024_q2 FOR VALUES IN ('page.viewed', 'page.searched', 'session.started');
CREATE TABLE app.events_2024_q2_money PARTITION OF app.events_2024_q2 FOR VALUES IN ('invoice.paid', 'invoice.sent');
CREATE TABLE app.events_2024_q2_rest PARTITION OF app.events_2024_q2 DEFAULT;
CREATE TABLE app.events_2024_q4 PARTITION OF app.events FOR VALUES FROM ('2024-10-01 00:00+00') TO ('2025-01-01 00:00+00');
CREATE TABLE app.events_rest PARTITION OF app.events DEFAULT;
CREATE TABLE app.events_2024_q3 (properties jsonb, kind text NOT NULL, gone int, id bigint NOT NULL, message text, user_id uuid, occurred_at timestamptz NOT NULL, CONSTRAINT kind_named CHECK (kind <> ''));
ALTER TABLE app.events_2024_q3 DROP COLUMN gone;
ALTER TABLE app.events ATTACH PARTITION app.events_2024_q3 FOR VALUES FROM ('2024-07-01 00:00+00') TO ('2024-10-01 00:00+00');

-- Spread over 22 months from December 2022, whatever the number; the last quarter of 2024 stays empty.
INSERT INTO app.events
SELECT i, at + CASE WHEN at >= '2024-10-01 00:00+00' THEN interval '200 days' ELSE interval '0' END, kind,
       CASE WHEN r % 11 > 0 THEN pg_temp.id_of('user', pg_temp.busy(i / 3, r >> 36, pg_temp.row_count())) END,
       CASE kind WHEN 'page.viewed' THEN 'GET /' || replace(pg_temp.phrase(r), ' ', '/') || '/' || (r >> 32) % 9999 || ' 200'
                 WHEN 'page.searched' THEN 'searched for "' || pg_temp.phrase(r) || '", ' || r % 97 || ' results'
                 WHEN 'session.started' THEN 'signed in from 10.' || r % 251 || '.' || (r >> 12) % 251 || '.' || (r >> 24) % 251
                 ELSE pg_temp.phrase(r) || ' ' || pg_temp.phrase(r >> 20) || ' #' || (r >> 30) % 1000000 END,
       jsonb_build_object('request_id', md5('request ' || i / 3), 'duration_ms', ((r >> 8) % 900000 * 0.001), 'status', 200 + (r % 17 / 16) * 300,
                          'client', (ARRAY['web', 'ios', 'android', 'api'])[1 + (r >> 5) % 4], 'version', '3.' || (r >> 7) % 14 || '.' || (r >> 9) % 9)
  -- OFFSET 0 keeps the planner from computing r anew at each place where it is used.
  FROM (SELECT i, h AS r, (ARRAY['page.viewed', 'page.viewed', 'page.viewed', 'page.searched', 'session.started', 'invoice.paid', 'invoice.sent', 'report.exported'])[1 + (h >> 3) % 8] AS kind,
               timestamptz '2022-12-15 00:00+00' + i * (interval '22 months' / (3 * pg_temp.row_count())) AS at
          FROM (SELECT i, pg_temp.h(i, 35) AS h FROM generate_series(1, 3 * pg_temp.row_count()) AS i OFFSET 0) AS numbers OFFSET 0) AS e;

ALTER TABLE app.events ADD PRIMARY KEY (id, occurred_at, kind);
CREATE INDEX events_user ON app.events (user_id, occurred_at DESC);
CREATE INDEX events_kind_only ON ONLY app.events (kind);

-- An enum's hash is its OID's: after a restore the same rows lie in other partitions, and pg_dump loads through the root.
CREATE TABLE app.plan_changes (id int, plan types.plan, note text) PARTITION BY HASH (plan);
CREATE TABLE app.plan_changes_0 PARTITION OF app.plan_changes FOR VALUES WITH (MODULUS 3, REMAINDER 0);
CREATE TABLE app.plan_changes_1 PARTITION OF app.plan_changes FOR VALUES WITH (MODULUS 3, REMAINDER 1);
CREATE TABLE app.plan_changes_2 PARTITION OF app.plan_changes FOR VALUES WITH (MODULUS 3, REMAINDER 2);
INSERT INTO app.plan_changes SELECT i, (enum_range(NULL::types.plan))[1 + i % 5], pg_temp.phrase(pg_temp.h(i, 36)) FROM generate_series(1, 100) AS i;
