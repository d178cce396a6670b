-- The platform's schema from its first migration, as knex leaves it. Data first, constraints and indexes after: that is what makes millions of rows quick.
-- feature: organizations and users
-- feature: knex migration tables

CREATE FUNCTION public.set_updated_at() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END
$$;

CREATE TABLE public.organizations (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    name varchar(255) NOT NULL,
    slug varchar(100) NOT NULL,
    domain varchar(255),
    logo_url text,
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL
);

CREATE TABLE public.users (
    id uuid DEFAULT gen_random_uuid() NOT NULL,
    email varchar(255) NOT NULL,
    first_name varchar(100),
    last_name varchar(100),
    organization_id uuid,
    created_at timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at timestamptz DEFAULT CURRENT_TIMESTAMP NOT NULL
);

INSERT INTO public.organizations
SELECT pg_temp.id_of('organization', i), initcap(name) || ' ' || suffix, slug, slug || '.example.com',
       CASE WHEN i % 4 > 0 THEN 'https://cdn.example.com/logos/' || left(md5(slug), 12) || '.png' END, made, made + i % 90 * interval '1 day'
  FROM (SELECT i, pg_temp.phrase(pg_temp.h(i, 10)) AS name, (ARRAY['Ltd', 'GmbH', 'Inc.', 'S.A.', 'Labs', '& Sons'])[1 + i % 6] AS suffix,
               replace(pg_temp.phrase(pg_temp.h(i, 10)), ' ', '-') || '-' || i AS slug,
               timestamptz '2023-01-02 08:00:00+00' + i * interval '37 minutes 12.345678 seconds' AS made
          FROM generate_series(1, pg_temp.organization_count()) AS i OFFSET 0) AS o;

INSERT INTO public.users
SELECT pg_temp.id_of('user', i),
       translate(lower(first), 'áéíóãëø', 'aeioaeo') || '.' || translate(lower(last), 'áéíóúü''', 'aeiouu') || '.' || i || '@example.com',
       first, CASE WHEN i % 97 > 0 THEN last END,
       CASE WHEN i % 50 > 0 THEN pg_temp.id_of('organization', 1 + pg_temp.h(i, 11) % pg_temp.organization_count()) END, made, made + i % 400 * interval '1 hour'
  FROM (SELECT i, pg_temp.first_name(pg_temp.h(i, 12)) AS first, pg_temp.last_name(pg_temp.h(i, 13)) AS last,
               timestamptz '2023-01-03 09:00:00+00' + i * interval '8 seconds' + pg_temp.h(i, 14) % 5000000 * interval '1 microsecond' AS made
          FROM generate_series(1, pg_temp.row_count()) AS i OFFSET 0) AS u;

ALTER TABLE public.organizations
    ADD CONSTRAINT organizations_pkey PRIMARY KEY (id),
    ADD CONSTRAINT organizations_slug_unique UNIQUE (slug),
    ADD CONSTRAINT organizations_domain_unique UNIQUE (domain);
ALTER TABLE public.users
    ADD CONSTRAINT users_pkey PRIMARY KEY (id),
    ADD CONSTRAINT users_email_unique UNIQUE (email),
    ADD CONSTRAINT users_organization_id_foreign FOREIGN KEY (organization_id) REFERENCES public.organizations (id) ON DELETE CASCADE;
CREATE INDEX users_organization_id_index ON public.users (organization_id);
CREATE TRIGGER organizations_updated_at BEFORE UPDATE ON public.organizations FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();
CREATE TRIGGER users_updated_at BEFORE UPDATE ON public.users FOR EACH ROW EXECUTE FUNCTION public.set_updated_at();

CREATE TABLE public.knex_migrations (id serial PRIMARY KEY, name varchar(255), batch integer, migration_time timestamptz);
CREATE TABLE public.knex_migrations_lock (index serial PRIMARY KEY, is_locked integer);
INSERT INTO public.knex_migrations (name, batch, migration_time) VALUES ('20230102080000_initial_schema.js', 1, '2023-01-02 08:00:00.123+00');
INSERT INTO public.knex_migrations_lock (is_locked) VALUES (0);
