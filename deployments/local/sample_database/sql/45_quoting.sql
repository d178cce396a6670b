-- Names that need quoting, or that a pattern, a shell or a listing would take for something else.
-- feature: names with blanks, quotes, dots, unicode, upper case, line breaks, 63 bytes and key words
-- feature: schema names that are patterns to pg_dump

CREATE SCHEMA "Sales & Orders";
CREATE TABLE "Sales & Orders"."Order Lines" ("Order No" int PRIMARY KEY, "it's" text, "say ""hello""" text, "select" int, "ÜNÏCÖDE 表 🐍" text, "a.b" int, "$1" text, "{x}" text, "%s" text, "back\slash" text,
    " leading" int, "trailing " int, "T" int, "row" int, "count" int, "oid" int, "users" int);
INSERT INTO "Sales & Orders"."Order Lines"
SELECT i, 'it''s ' || i, '"' || i || '"', i, '表 ' || i, i, '$' || i, '{' || i || '}', '%' || i, '\' || i, i, i, i, i, i, i, i FROM generate_series(1, 30) AS i;
CREATE INDEX "index; DROP TABLE users" ON "Sales & Orders"."Order Lines" ("it's");
CREATE TABLE "Sales & Orders"."Order Lines.""2024""" (id int);
INSERT INTO "Sales & Orders"."Order Lines.""2024""" SELECT generate_series(1, 5);
CREATE TABLE "Sales & Orders"."line
break" ("col
umn" text DEFAULT 'two
lines', "tab	ulator" int);
INSERT INTO "Sales & Orders"."line
break" VALUES (DEFAULT, 1), ('one', 2);
COMMENT ON TABLE "Sales & Orders"."line
break" IS 'A name with a line break
\connect nowhere
-- and a comment of several lines';
CREATE TABLE "Sales & Orders"."select" ("from" int, "where" text);
INSERT INTO "Sales & Orders"."select" VALUES (1, 'here');
CREATE TABLE "Sales & Orders"."-option" (id int);
INSERT INTO "Sales & Orders"."-option" VALUES (1);
CREATE TABLE "Sales & Orders"."as_long_as_a_name_may_be_in_postgresql_that_is_sixty_three_byte" (id int);
CREATE TYPE "Sales & Orders"."Mood, or so" AS ENUM ('very ''good''', 'a,b', '', ' ');
CREATE TABLE "Sales & Orders"."Moods" (mood "Sales & Orders"."Mood, or so", moods "Sales & Orders"."Mood, or so"[]);
INSERT INTO "Sales & Orders"."Moods" VALUES ('a,b', '{"", "a,b", " ", "very ''good''"}'), ('', '{}');
CREATE SEQUENCE "Sales & Orders"."Next ""No""" START WITH 5;
SELECT nextval('"Sales & Orders"."Next ""No"""');

-- Left out by exact name, each must leave its neighbour in.
CREATE SCHEMA "audit*";
CREATE TABLE "audit*".log (id int);
INSERT INTO "audit*".log VALUES (1);
CREATE SCHEMA auditing;
CREATE TABLE auditing.log (id int);
INSERT INTO auditing.log VALUES (1), (2);
CREATE SCHEMA "a|b?[c].d";
CREATE TABLE "a|b?[c].d".log (id int);
INSERT INTO "a|b?[c].d".log VALUES (1), (2), (3);
CREATE SCHEMA "APP";
CREATE TABLE "APP".events (id int);
INSERT INTO "APP".events VALUES (4);
