"""What a swap is called, what forbids it and which differences stop it: rules without a server."""

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import DatabaseProperties, DatabaseSetting
from core.property_differences import database_privileges, property_differences
from core.swap_plan import (
    DatabaseFacts,
    Marker,
    ServerFacts,
    SwapPlan,
    before_name,
    copy_refusals,
    live_refusals,
    marker_text,
    read_marker,
    refusals,
    undone_name,
)

ID = "1f2e3d4c"
IDS = st.text("0123456789abcdef", min_size=8, max_size=8)
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1).filter(
    lambda name: len(name.encode()) <= 63
)


def server(**changes: Any) -> ServerFacts:
    facts: dict[str, Any] = {
        "system_identifier": "7",
        "in_recovery": False,
        "maintenance_database": "postgres",
        "role": "restorer",
        "superuser": False,
        "createdb": True,
        "supabase": False,
        "standbys": 0,
        "names": frozenset({"app", "app_copy", "postgres"}),
    }
    return ServerFacts(**{**facts, **changes})


def database(name: str = "app", **changes: Any) -> DatabaseFacts:
    facts: dict[str, Any] = {
        "name": name,
        "oid": 5,
        "owner": "app_owner",
        "owned": True,
        "is_template": False,
        "allow_connections": True,
        "comment": None,
    }
    return DatabaseFacts(**{**facts, **changes})


def marker(**changes: Any) -> Marker:
    facts: dict[str, Any] = {
        "restore_id": ID,
        "live": "app",
        "live_oid": 5,
        "copied": "app_copy",
        "copied_oid": 6,
        "comment": "an app's",
        "begun": datetime(2026, 11, 22, 3, 4, 5, 678, UTC),
        "way_back": "ALTER DATABASE …",
    }
    return Marker(**{**facts, **changes})


def refused(
    the_server: ServerFacts | None = None, live: DatabaseFacts | str | None = None, **changes: Any
) -> list[str]:
    copied = changes.get("copied", database("app_copy", oid=6))
    return list(
        refusals(the_server or server(), live or database(), copied, before_name("app", ID), changes.get("id", ID))
    )


@given(name=NAMES, restore_id=IDS)
def test_both_names_fit_into_63_bytes_and_keep_the_id_and_the_beginning(name: str, restore_id: str) -> None:
    for made, suffix in (
        (before_name(name, restore_id), f"_before_{restore_id}"),
        (undone_name(name, restore_id), f"_undone_{restore_id}"),
    ):
        assert len(made.encode()) <= 63
        assert made.endswith(suffix)
        kept = made.removesuffix(suffix)
        assert name.startswith(kept)
        # Nothing is cut without need, and no more than the character that does not fit.
        assert kept == name or len((kept + name[len(kept)]).encode()) + len(suffix) > 63


def test_names_are_what_the_documents_say() -> None:
    assert before_name("app", ID) == "app_before_1f2e3d4c"
    assert undone_name("app", ID) == "app_undone_1f2e3d4c"
    assert before_name("ä" * 31, ID) == "ä" * 23 + "_before_1f2e3d4c"


def test_nothing_forbids_an_ordinary_swap() -> None:
    assert refused() == []
    assert live_refusals(server(), database(), ID) == ()
    assert copy_refusals(masked=False, partial=False) == ()


@pytest.mark.parametrize(
    ("the_server", "live", "sentence"),
    [
        (server(in_recovery=True), database(), "the server is a standby"),
        (server(createdb=False), database(), "the role restorer has no CREATEDB"),
        (server(names=frozenset({"app_before_1f2e3d4c"})), database(), "the name app_before_1f2e3d4c is taken"),
        (server(), "app", "there is no database app on this server"),
        (server(), database(owned=False), "may not rename app: it belongs to app_owner"),
        (server(), database(is_template=True), "app is marked as a template"),
        (server(), database(allow_connections=False), "app takes no connections"),
        (server(), database(prepared=("tx-1", "tx-2")), "app has prepared transactions: tx-1, tx-2"),
        (server(), database(slots=("debezium",)), "app has logical replication slots: debezium"),
        (server(), database(subscriptions=("from_hq",)), "app has subscriptions: from_hq"),
        (server(maintenance_database="app"), database(), "app is the maintenance database"),
        (server(), database("postgres"), "postgres is one of the server's own databases"),
        (server(), database("template1", is_template=True), "template1 is one of the server's own databases"),
        (server(), database("rdsadmin"), "rdsadmin belongs to the platform (Amazon RDS)"),
        (
            server(supabase=True, maintenance_database="other"),
            database("postgres"),
            "postgres is managed by Supabase: its services",
        ),
        (
            server(),
            database(allow_connections=False, comment=marker_text(marker())),
            "Retry of the run that was killed, a restore with the swap, or undo-swap opens it; or, in psql on another database: ALTER",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_each_thing_that_forbids_a_swap_is_said(
    the_server: ServerFacts, live: DatabaseFacts | str, sentence: str
) -> None:
    assert any(reason.startswith(sentence) or sentence in reason for reason in refused(the_server, live))
    assert any(sentence in reason for reason in live_refusals(the_server, live, ID))


def test_the_copy_is_looked_at_as_the_live_one_is() -> None:
    assert refused(copied="app_copy") == ["there is no database app_copy on this server"]
    assert len(refused(copied=database("app_copy", prepared=("x",), slots=("y",), subscriptions=("z",)))) == 3
    assert "app cannot be swapped with itself" in refused(copied=database())
    assert copy_refusals(masked=True, partial=True) == (
        "the copy is masked: its data was changed on purpose",
        "the copy is partial: only chosen tables were restored",
    )


def test_an_id_that_is_none_is_refused() -> None:
    assert refused(id="1F2E3D4C") == ["1F2E3D4C is not a restore's id (8 hexadecimal characters)"]


def test_a_superuser_needs_neither_createdb_nor_ownership() -> None:
    assert refused(server(superuser=True, createdb=False), database(owned=False)) == []


def test_a_marker_is_read_back_and_only_from_the_database_that_it_is_about() -> None:
    assert read_marker(marker_text(marker()), 5) == marker()
    assert read_marker(marker_text(marker()), 6) is None
    for comment in (None, "", "an app's", "{}", '{"nightshift":"restore","restore_id":"1f2e3d4c"}', "[1]", "{broken"):
        assert read_marker(comment, 5) is None


def properties(**changes: Any) -> DatabaseProperties:
    facts: dict[str, Any] = {
        "owner": "app_owner",
        "encoding": "UTF8",
        "collate": "C",
        "ctype": "C",
        "provider": "libc",
        "locale": None,
        "icu_rules": None,
        "collation_version": None,
        "connection_limit": -1,
        "is_template": False,
        "allow_connections": True,
        "tablespace": "pg_default",
        "acl": None,
        "comment": None,
        "settings": (),
    }
    return DatabaseProperties(**{**facts, **changes})


ACL = ("=Tc/app_owner", "app_owner=CTc/app_owner", "reader=c*/app_owner")


def test_equal_properties_do_not_differ() -> None:
    assert property_differences(properties(), properties(), properties()) == ()
    written_out = properties(acl=("app_owner=CTc/app_owner", "=cT/app_owner"))
    assert property_differences(properties(), written_out, None) == ()


def test_what_an_application_would_notice_stops_and_the_rest_is_told() -> None:
    live = properties(acl=ACL, connection_limit=50, settings=(DatabaseSetting(role="", name="work_mem", value="64MB"),))
    copied = properties(owner="postgres", acl=("=c/app_owner", "app_owner=CTc/x"), tablespace="fast", comment="c")
    found = property_differences(live, copied, live)
    assert [difference.topic for difference in found if difference.stops] == [
        "owner",
        "connection limit",
        "privileges of PUBLIC",
        "privileges of reader",
        "setting work_mem",
    ]
    assert [difference.topic for difference in found if not difference.stops] == ["tablespace", "comment"]
    assert str(found[3]) == (
        "privileges of reader: CONNECT WITH GRANT OPTION in the live database, none in the copy"
        " (not as in the backup, which agrees with the live database)"
    )
    plan = SwapPlan(
        live="app",
        live_oid=5,
        copy_name="c",
        copy_oid=6,
        old_name="o",
        restore_id=ID,
        system_identifier="7",
        refusals=(),
        differences=found,
    )
    assert [
        difference.topic for difference in plan.unaccepted({"owner", "privileges of PUBLIC", "setting work_mem"})
    ] == [
        "connection limit",
        "privileges of reader",
    ]


def test_a_difference_says_which_side_left_what_was_backed_up() -> None:
    (after,) = property_differences(properties(owner="b"), properties(), properties())[:1]
    assert after.origin == "changed in the live database after the backup"
    (neither,) = property_differences(properties(connection_limit=1), properties(connection_limit=2), properties())
    assert neither.origin == "the backup has -1"
    (unknown,) = property_differences(properties(connection_limit=1), properties(connection_limit=2), None)
    assert unknown.origin == ""


def test_a_role_named_public_is_not_everybody() -> None:
    assert database_privileges(('"PUBLIC"=c/postgres', "=T/postgres"), "postgres") == {
        '"PUBLIC"': ("CONNECT",),
        "PUBLIC": ("TEMPORARY",),
    }
    for strange in ("no item", "reader=r/x"):
        with pytest.raises(ValueError, match=r"privilege|item"):
            database_privileges((strange,), "postgres")


ROLES = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
LETTERS = st.dictionaries(st.sampled_from("CTc"), st.booleans(), min_size=1)


@given(grants=st.lists(st.tuples(ROLES, LETTERS), max_size=5), order=st.randoms())
def test_any_role_name_is_read_back_and_order_does_not_matter(
    grants: list[tuple[str, dict[str, bool]]], order: Any
) -> None:
    items = [
        '"'
        + role.replace('"', '""')
        + '"='
        + "".join(letter + "*" * star for letter, star in letters.items())
        + '/"a=b/"'
        for role, letters in grants
    ]
    found = database_privileges(items, "postgres")
    assert {role for role in found if role != '"PUBLIC"'} == {role for role, _ in grants if role != "PUBLIC"}
    order.shuffle(items)
    assert database_privileges(items, "postgres") == found
