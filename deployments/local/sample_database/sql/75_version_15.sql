-- needs: version 15
-- feature: publication with columns, a row filter and a schema
-- feature: unique constraint with NULLS NOT DISTINCT
-- feature: view with the caller's rights
-- feature: unlogged sequence
-- feature: grant on a parameter

CREATE TABLE app.links (id int, target text, CONSTRAINT links_unique UNIQUE NULLS NOT DISTINCT (target));
INSERT INTO app.links VALUES (1, NULL), (2, 'a');
CREATE VIEW code.own_documents WITH (security_invoker) AS SELECT d.id, d.title FROM app.documents AS d;
CREATE UNLOGGED SEQUENCE odd.unlogged_sequence START WITH 42;
CREATE PUBLICATION platform_filtered FOR TABLE public.users (id, email) WHERE (email LIKE '%@example.com');
RESET ROLE;
CREATE PUBLICATION platform_schemas FOR TABLES IN SCHEMA auditing, "Sales & Orders";
GRANT SET ON PARAMETER log_min_duration_statement TO platform_reporting;
