-- feature: large objects with owners, grants and comments

-- Numbers of our own, so that two loads are equal. One empty, one with a hole, one of many pages; the rest grow with the size.
SELECT lo_create(900000);
SELECT lo_from_bytea(900001, convert_to(pg_temp.words(1, 60, 63), 'UTF8'));
SELECT lo_from_bytea(900002, (SELECT string_agg(decode(md5(i::text), 'hex'), '' ORDER BY i) FROM generate_series(1, 20000) AS i));
SELECT lo_create(900003);
SELECT lo_put(900003, 100000, 'after a hole');
SELECT lo_put(900003, 0, 'before a hole');
SELECT count(lo_from_bytea((900100 + i)::oid, convert_to(pg_temp.words(i, 61, 40), 'UTF8'))) FROM generate_series(1, least(2000, pg_temp.row_count() / 500)) AS i;

CREATE TABLE app.attachments (id int PRIMARY KEY, name text, content oid);
INSERT INTO app.attachments SELECT row_number() OVER (ORDER BY m.oid), 'attachment ' || m.oid || '.bin', m.oid FROM pg_largeobject_metadata AS m;
COMMENT ON LARGE OBJECT 900001 IS 'Words; with a ''quote''';
GRANT SELECT, UPDATE ON LARGE OBJECT 900001 TO platform_api;
GRANT SELECT ON LARGE OBJECT 900002 TO PUBLIC;
-- pg_read_all_data does not cover large objects; without a grant on each, pg_dump fails.
DO $$
DECLARE
    numbers text;
BEGIN
    SELECT string_agg(m.oid::text, ', ') INTO numbers FROM pg_largeobject_metadata AS m;
    EXECUTE 'GRANT SELECT ON LARGE OBJECT ' || numbers || ' TO nightshift_backup';
END
$$;
