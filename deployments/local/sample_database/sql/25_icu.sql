-- needs: ICU
-- feature: nondeterministic collation

CREATE COLLATION types.without_case (PROVIDER = icu, LOCALE = 'und-u-ks-level2', DETERMINISTIC = false);
CREATE COLLATION types.german_phonebook (PROVIDER = icu, LOCALE = 'de-u-co-phonebk');
CREATE DOMAIN types.handle AS text COLLATE types.without_case;
CREATE TABLE types.collated (id int PRIMARY KEY, handle types.handle UNIQUE, name text COLLATE types.german_phonebook, code text COLLATE types.without_case);
INSERT INTO types.collated SELECT i, CASE WHEN i % 2 = 0 THEN upper(pg_temp.phrase(i)) ELSE pg_temp.phrase(i) END || i, 'Müller ' || i, CASE WHEN i % 2 = 0 THEN 'AbC' ELSE 'abc' END
  FROM generate_series(1, 40) AS i;
CREATE INDEX collated_name ON types.collated (name COLLATE types.without_case);
