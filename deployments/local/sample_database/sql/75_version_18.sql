-- needs: version 18
-- feature: virtual generated column
-- feature: temporal primary and foreign keys
-- feature: constraints not enforced, NOT NULL not valid
-- feature: default privileges on large objects

CREATE TABLE odd.virtual (id int, doubled int GENERATED ALWAYS AS (id * 2) VIRTUAL, tripled int GENERATED ALWAYS AS (id * 3) STORED);
INSERT INTO odd.virtual SELECT generate_series(1, 20);
CREATE TABLE odd.prices (product int4range, valid daterange, price numeric(8, 2), PRIMARY KEY (product, valid WITHOUT OVERLAPS));
CREATE TABLE odd.sales (product int4range, valid daterange, FOREIGN KEY (product, PERIOD valid) REFERENCES odd.prices (product, PERIOD valid));
INSERT INTO odd.prices VALUES ('[1,2)', '[2024-01-01,2024-07-01)', 9.90), ('[1,2)', '[2024-07-01,2025-01-01)', 10.00);
INSERT INTO odd.sales VALUES ('[1,2)', '[2024-06-01,2024-08-01)');
CREATE TABLE odd.not_enforced (a int CONSTRAINT positive CHECK (a > 0) NOT ENFORCED, b int);
INSERT INTO odd.not_enforced VALUES (-1, NULL);
ALTER TABLE odd.not_enforced ADD CONSTRAINT b_given NOT NULL b NOT VALID;
ALTER DEFAULT PRIVILEGES FOR ROLE platform_owner GRANT SELECT ON LARGE OBJECTS TO nightshift_backup;
