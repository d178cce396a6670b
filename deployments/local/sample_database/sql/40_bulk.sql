-- What makes the size: with the events, about 1.4 kB of plain dump for each user.

CREATE TABLE app.sessions (
    id bigint GENERATED ALWAYS AS IDENTITY,
    user_id uuid NOT NULL,
    token_hash bytea NOT NULL,
    address inet,
    user_agent text,
    started_at timestamptz NOT NULL,
    lasted interval
);
INSERT INTO app.sessions (user_id, token_hash, address, user_agent, started_at, lasted)
SELECT pg_temp.id_of('user', pg_temp.busy(i, r >> 36, pg_temp.row_count())), decode(md5(r::text) || md5((r + 1)::text), 'hex'), inet '10.0.0.0' + r % 16777216,
       'Mozilla/5.0 (' || (ARRAY['X11; Linux x86_64', 'Macintosh; Intel Mac OS X 10_15_7', 'Windows NT 10.0; Win64; x64', 'iPhone; CPU iPhone OS 17_4 like Mac OS X'])[1 + r % 4]
       || ') AppleWebKit/537.36 Chrome/' || 110 + (r >> 9) % 16 || '.0.0.0',
       timestamptz '2024-01-01 00:00+00' + i * interval '11 seconds' + r % 1000000 * interval '1 microsecond', (r >> 13) % 28800 * interval '1 second'
  FROM (SELECT i, pg_temp.h(i, 40) AS r FROM generate_series(1, pg_temp.row_count()) AS i OFFSET 0) AS s;
ALTER TABLE app.sessions ADD PRIMARY KEY (id), ADD FOREIGN KEY (user_id) REFERENCES public.users ON DELETE CASCADE;
CREATE INDEX sessions_started ON app.sessions USING brin (started_at);

CREATE TABLE app.documents (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    organization_id uuid NOT NULL,
    author_id uuid,
    title text NOT NULL,
    body text,
    tags text[] DEFAULT '{}' NOT NULL,
    created_at timestamptz DEFAULT now() NOT NULL
);
INSERT INTO app.documents
SELECT pg_temp.id_of('document', i), pg_temp.id_of('organization', pg_temp.busy(i / 5, r >> 24, pg_temp.organization_count())), pg_temp.id_of('user', pg_temp.busy(i * 4, r >> 36, pg_temp.row_count())),
       initcap(pg_temp.phrase(r)), pg_temp.words(i, 42, (8 + (r >> 3) % 56)::int), ARRAY[pg_temp.phrase(r >> 5), pg_temp.phrase(r >> 11)],
       timestamptz '2023-06-01 00:00+00' + i * interval '97 seconds'
  FROM (SELECT i, pg_temp.h(i, 41) AS r FROM generate_series(1, greatest(4, pg_temp.row_count() / 4)) AS i OFFSET 0) AS d;
ALTER TABLE app.documents
    ADD PRIMARY KEY (id),
    ADD FOREIGN KEY (organization_id) REFERENCES public.organizations ON DELETE CASCADE,
    ADD FOREIGN KEY (author_id) REFERENCES public.users ON DELETE CASCADE;
CREATE INDEX documents_organization ON app.documents (organization_id, created_at);

CREATE TABLE app.invoices (
    id bigserial,
    organization_id uuid NOT NULL,
    number text NOT NULL,
    net numeric(12, 2) NOT NULL,
    tax_rate numeric(5, 4) DEFAULT 0.1900 NOT NULL,
    gross numeric(12, 2) GENERATED ALWAYS AS (round(net * (1 + tax_rate), 2)) STORED,
    currency char(3) DEFAULT 'EUR' NOT NULL,
    plan types.plan,
    issued_on date,
    due_after interval DEFAULT '14 days'
);
INSERT INTO app.invoices (organization_id, number, net, tax_rate, currency, plan, issued_on, due_after)
SELECT pg_temp.id_of('organization', pg_temp.busy(i / 5, r >> 24, pg_temp.organization_count())), to_char(i, 'FM"INV-"0000000000'), ((r >> 6) % 10000000 * 0.01), (ARRAY[0.19, 0.07, 0.2000, 0])[1 + (r >> 4) % 4],
       (ARRAY['EUR', 'USD', 'GBP', 'CHF'])[1 + (r >> 2) % 4], (enum_range(NULL::types.plan))[1 + r % 5], date '2023-02-01' + (i % 700)::int, (ARRAY['14 days', '1 mon', '30 days', '720:00:00'])[1 + r % 4]::interval
  FROM (SELECT i, pg_temp.h(i, 43) AS r FROM generate_series(1, greatest(4, pg_temp.row_count() / 4)) AS i OFFSET 0) AS d;
ALTER TABLE app.invoices
    ADD PRIMARY KEY (id),
    ADD CONSTRAINT invoices_number_unique UNIQUE (number),
    ADD FOREIGN KEY (organization_id) REFERENCES public.organizations ON DELETE CASCADE;
