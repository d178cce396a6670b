"""The statements that make a database as the source was: their quoting, and that a real server reads them as they were meant."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.database_statements import (
    comment_on_database,
    connection_limit,
    create_database,
    grant_statements,
    marker_of,
    name_problem,
    parse_acl,
    read_marker,
    set_in_database,
    split_settings,
    temporary_name,
)
from core.digest_sql import quoted
from core.manifest import DatabaseProperties, DatabaseSetting
from core.sql_text import literal, setting_value, split_list
from core.sql_tokens import statements
from tasks.database_properties import read_properties
from tests.fix_postgres import PostgresServer
from tests.manifest_facts import PROPERTIES

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
PLAIN = PROPERTIES.model_copy(update={"owner": 'the "owner"', "collate": "C.UTF-8", "ctype": "C.UTF-8"})


def with_(**more: object) -> DatabaseProperties:
    return PLAIN.model_copy(update=more)


@given(TEXTS)
def test_a_literal_is_one_string_whatever_is_in_it(text: str) -> None:
    ((token,),) = statements(f"{literal(text)};")
    assert (token.kind, token.text) == ("string", text)


def test_a_server_reads_literals_as_they_were_meant(postgres_16: PostgresServer) -> None:
    texts = ["it's", "\\", "\\'", "'; DROP TABLE a; --", "a\nb\t", "ä€😀", "$$", "E'x'", '"']
    with postgres_16.connect() as session:
        for conforming in ("on", "off"):
            session.execute(f"SET standard_conforming_strings = {conforming}".encode())
            for text in texts:
                assert session.execute(f"SELECT {literal(text)}".encode()).fetchone() == (text,)
    with pytest.raises(ValueError, match="NUL"):
        literal("a\0b")


@given(st.lists(TEXTS))
def test_a_list_of_names_is_split_as_it_was_joined(names: list[str]) -> None:
    assert split_list(", ".join(quoted(name) for name in names)) == tuple(names)


@pytest.mark.parametrize("value", ["a,,b", '"a', '"a" "b"', "a,", "a b"])
def test_a_broken_list_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match="list of names"):
        setting_value("search_path", value)


def test_create_database_says_what_each_major_understands() -> None:
    assert create_database("a", PLAIN, server_major=14) == (
        'CREATE DATABASE "a" WITH TEMPLATE = template0 OWNER = "the ""owner""" ENCODING = \'UTF8\''
        " LC_COLLATE = 'C.UTF-8' LC_CTYPE = 'C.UTF-8'"
    )
    icu = with_(provider="icu", locale="de-DE", icu_rules="&a < b")
    assert create_database("a", icu, server_major=16).endswith(
        "LOCALE_PROVIDER = icu LC_COLLATE = 'C.UTF-8' LC_CTYPE = 'C.UTF-8' ICU_LOCALE = 'de-DE' ICU_RULES = '&a < b'"
    )
    builtin = with_(provider="builtin", locale="C.UTF-8")
    assert create_database("a", builtin, server_major=18).endswith("BUILTIN_LOCALE = 'C.UTF-8'")
    for properties, major in ((icu, 14), (icu, 15), (builtin, 16), (with_(provider="unknown"), 18)):
        with pytest.raises(ValueError, match=r"provider|rules"):
            create_database("a", properties, server_major=major)


def test_what_would_stop_a_restore_is_set_only_afterwards() -> None:
    settings = tuple(
        DatabaseSetting(role="", name=name, value="x")
        for name in ("search_path", "default_transaction_read_only", "app.tenant", "role")
    )
    before, afterwards = split_settings(settings)
    assert [setting.name for setting in before] == ["search_path", "app.tenant"]
    assert [setting.name for setting in afterwards] == ["default_transaction_read_only", "role"]


def test_privileges_are_read_with_quotes_and_grant_options() -> None:
    first, second, third = parse_acl(("=Tc/postgres", '"a ""b"=C*c/"o=/""x"', "owner=CTc/owner"))
    assert (first.grantee, first.privileges) == ("", ("TEMPORARY", "CONNECT"))
    assert (second.grantee, second.grantor, second.privileges, second.grantable) == (
        'a "b',
        'o=/"x',
        ("CONNECT",),
        ("CREATE",),
    )
    assert third.privileges == ("CREATE", "TEMPORARY", "CONNECT")
    for item in ("postgres", "a=r/b", "=c"):
        with pytest.raises(ValueError, match="privilege"):
            parse_acl((item,))
    assert grant_statements("d", PLAIN) == ()
    assert len(grant_statements("d", with_(acl=()))) == 2


@pytest.mark.parametrize("major", [15, pytest.param(16, marks=pytest.mark.services), 18])
def test_a_real_database_gets_the_properties_of_another(
    request: pytest.FixtureRequest,
    major: int,
    fresh_role: Callable[..., tuple[str, str]],
    fresh_database: Callable[..., str],
) -> None:
    server: PostgresServer = request.getfixturevalue(f"postgres_{major}")
    owner, _ = fresh_role(server)
    reader, _ = fresh_role(server)
    source = fresh_database(server, options=f"OWNER {owner} ENCODING 'LATIN1' LOCALE 'C'")
    server.execute(
        "postgres",
        f'ALTER DATABASE {source} SET search_path TO \'a, b\', "$user", "C"',
        f"ALTER DATABASE {source} SET DateStyle TO 'German'",
        f"ALTER DATABASE {source} SET app.text TO E'it''s \\\\ \"x\"'",
        f"ALTER ROLE {reader} IN DATABASE {source} SET work_mem TO '7MB'",
        f"ALTER DATABASE {source} SET temp_tablespaces TO ''",
        f"REVOKE TEMPORARY ON DATABASE {source} FROM PUBLIC",
        f"GRANT CREATE, CONNECT ON DATABASE {source} TO {reader} WITH GRANT OPTION",
        f"ALTER DATABASE {source} CONNECTION LIMIT 5",
        f"COMMENT ON DATABASE {source} IS E'a \\\\ ''b'''",
    )
    with server.connect(source) as session:
        wanted = read_properties(session)
    name = f'copy "{secrets.token_hex(4)}" \\ of \'it'
    written = [create_database(name, wanted, server_major=server.major)]
    written += [set_in_database(name, setting) for setting in wanted.settings]
    written += [
        *grant_statements(name, wanted),
        connection_limit(name, wanted) or "",
        comment_on_database(name, wanted.comment),
    ]
    try:
        server.execute("postgres", *written)
        with server.connect(name) as session:
            found = read_properties(session)
    finally:
        server.execute("postgres", f"DROP DATABASE IF EXISTS {quoted(name)}")
    assert set(found.acl or ()) == set(wanted.acl or ())
    assert found.model_copy(update={"acl": None}) == wanted.model_copy(update={"acl": None})


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("", "needs a name"),
        ("ä" * 32, "64 bytes"),
        ("postgres", "own database"),
        ("nightshift_0a1b2c3d", "not finished"),
    ],
)
def test_names_that_no_copy_gets(name: str, problem: str) -> None:
    assert problem in (name_problem(name) or "")
    assert name_problem("nightshift_of_the_shop") is None


def test_a_marker_is_read_back_and_nothing_else_is_one() -> None:
    marker = marker_of("drill", "local", "0a1b2c3d", "b", datetime(2026, 1, 2, tzinfo=UTC))
    assert read_marker(marker.text) == marker
    for comment in (None, "", "the shop", "[]", '{"nightshift":"restore"}', marker.text.replace("drill", "other")):
        assert read_marker(comment) is None
    assert temporary_name("0a1b2c3d") == "nightshift_0a1b2c3d"
    for wrong in ("0A1B2C3D", "0a1b2c3", "../..", ""):
        with pytest.raises(ValueError, match="eight hexadecimal digits"):
            temporary_name(wrong)
