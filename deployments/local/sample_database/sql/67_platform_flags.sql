-- needs: extension platform_flags
-- (ours, in ../extension_path: PostgreSQL 18 finds it when extension_control_path says so)
-- feature: extension with configuration tables, part of whose rows is dumped

RESET ROLE;
CREATE SCHEMA IF NOT EXISTS extensions AUTHORIZATION platform_owner;
CREATE EXTENSION platform_flags WITH SCHEMA extensions;
INSERT INTO extensions.flags (name, enabled, built_in) SELECT 'flag ' || i, i % 2 = 0, false FROM generate_series(1, 25) AS i;
INSERT INTO extensions.flag_changes (flag, at) SELECT 'flag ' || i, timestamptz '2024-01-01 00:00+00' + i * interval '1 day' FROM generate_series(1, 10) AS i;
