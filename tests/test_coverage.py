"""Reading pg_restore's listing and comparing it; the lines are from real listings of 15, 16 and 18."""

import pytest

from core.archive_listing import parse_listing
from core.coverage import compare_coverage, roles_defined
from core.inventory import Expected, ExpectedEntry, ExpectedTag
from core.manifest import Role

LISTING = """;
; Archive created at 2026-11-22 21:46:09 UTC
;     dbname: postgres
;
7; 2615 16384 SCHEMA - app postgres
3022; 0 0 ACL - SCHEMA public pg_database_owner
219; 1259 16414 TABLE app t Platform Ops
2986; 0 16414 ROW SECURITY app t Platform Ops
2993; 0 16414 TABLE DATA app t Platform Ops
3158; 0 0 ACL app COLUMN t."user" Platform Ops
3166; 0 0 SEQUENCE SET app t_i2_seq postgres
3164; 0 0 COMMENT public TABLE "we""ird Name" postgres
3023; 0 0 COMMENT - EXTENSION vector
2390; 826 16555 DEFAULT ACL app DEFAULT PRIVILEGES FOR TABLES postgres
2989; 6106 16552 PUBLICATION TABLE app pub ref postgres
2999; 0 16505 MATERIALIZED VIEW DATA app mv postgres
"""
OLD_LARGE_OBJECTS = "3716; 2613 50001 BLOB - 50001 postgres\n3719; 0 0 BLOBS - BLOBS\n"
NEW_LARGE_OBJECTS = """3011; 2613 50001 BLOB METADATA - 50001..50003 postgres
3012; 0 0 BLOBS - 50001..50003 postgres
3722; 0 0 ACL - LARGE OBJECTS 50001..50003 postgres
"""
ROLES = (
    Role(name="Platform Ops", login=False, superuser=False),
    Role(name="postgres", login=True, superuser=True),
    Role(name="pg_monitor", login=False, superuser=False),
)
GLOBALS = 'CREATE ROLE "Platform Ops";\nALTER ROLE "Platform Ops" WITH NOLOGIN;\nCREATE ROLE postgres;\n'


def missing(*expected: Expected, listing: str = LISTING) -> tuple[str, ...]:
    return compare_coverage(expected, parse_listing(listing), ROLES, GLOBALS).missing


def entry(catalogue_oid: int, oid: int, kind: str = "table") -> ExpectedEntry:
    return ExpectedEntry(catalogue_oid=catalogue_oid, oid=oid, kind=kind, name="app.t")


def test_lines_are_taken_apart() -> None:
    entries = parse_listing(LISTING)
    assert len(entries) == 12
    assert [(entries[4].kind, entries[4].catalogue_oid, entries[4].oid, entries[4].words)] == [
        ("TABLE DATA", 0, 16414, "app t Platform Ops")
    ]
    assert [entry.kind for entry in entries][-3:] == ["DEFAULT ACL", "PUBLICATION TABLE", "MATERIALIZED VIEW DATA"]


def test_a_line_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="not a line of pg_restore --list: 'pg_restore: error"):
        parse_listing(LISTING + "pg_restore: error: something\n")


def test_objects_are_found_by_their_oids_and_data_by_its_word() -> None:
    assert missing(entry(1259, 16414), entry(0, 16414, "table data"), entry(0, 16505, "materialized view data")) == ()
    assert missing(entry(1259, 16415), entry(2615, 16414)) == ("table app.t", "table app.t")
    without_data = "\n".join(line for line in LISTING.splitlines() if "TABLE DATA" not in line)
    assert missing(entry(0, 16414, "table data"), listing=without_data) == ("table data app.t",)


def test_tags_are_found_whatever_quotes_and_owners_with_blanks() -> None:
    assert missing(ExpectedTag(kind="ACL", schema_name="app", tag="COLUMN t.user")) == ()
    assert missing(ExpectedTag(kind="COMMENT", schema_name="public", tag='TABLE "we""ird Name"')) == ()
    assert missing(ExpectedTag(kind="SEQUENCE SET", schema_name="app", tag="t_i2_seq")) == ()
    assert missing(ExpectedTag(kind="ACL", schema_name="app", tag="TABLE t")) == (
        "privileges of TABLE t in schema app",
    )
    assert missing(ExpectedTag(kind="SEQUENCE SET", schema_name="app", tag="t_i2")) == (
        "sequence set t_i2 in schema app",
    )


def test_large_objects_need_both_their_entry_and_their_content() -> None:
    expected = entry(2613, 50001, "large object")
    assert missing(expected, listing=OLD_LARGE_OBJECTS) == ()
    assert missing(expected, listing=OLD_LARGE_OBJECTS.splitlines()[0]) != ()
    assert missing(expected, entry(2613, 50002), listing=NEW_LARGE_OBJECTS) == ()
    assert missing(entry(2613, 50004), listing=NEW_LARGE_OBJECTS) != ()
    acl = ExpectedTag(kind="ACL", schema_name="-", tag="LARGE OBJECT 50002")
    assert missing(acl, listing=NEW_LARGE_OBJECTS) == ()
    assert missing(acl, listing=OLD_LARGE_OBJECTS) == ("privileges of LARGE OBJECT 50002",)


def test_a_role_that_the_globals_do_not_create_is_missing_and_predefined_ones_are_not_expected() -> None:
    coverage = compare_coverage((), parse_listing(LISTING), ROLES, "CREATE ROLE postgres;\n")
    assert (coverage.expected, coverage.listed, coverage.missing) == (2, 1, ("role Platform Ops",))


def test_roles_are_read_with_their_quotes_taken_off() -> None:
    text = 'CREATE ROLE "a ""b""";\nCREATE ROLE c;\n-- CREATE ROLE d;\nALTER ROLE e WITH LOGIN;\n'
    assert list(roles_defined(text)) == ['a "b"', "c"]


def test_a_role_whose_name_holds_a_lines_end_is_defined() -> None:
    text = 'CREATE ROLE plain;\nALTER ROLE plain WITH LOGIN;\nCREATE ROLE "two\nlines";\nCREATE ROLE "a ""b";\n'
    assert list(roles_defined(text)) == ["plain", "two\nlines", 'a "b']
