"""pg_dumpall's globals, read: every name and text survives its quoting, what is not known is named, and what cannot be cut with certainty is refused."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.digest_sql import quoted
from core.globals_sql import GlobalRole, Membership, decode_globals, parse_globals
from core.role_statements import plan_roles
from core.sql_text import literal
from tests.fix_postgres import PostgresServer

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
NAMES = TEXTS.filter(bool)
ROLES = st.builds(
    GlobalRole,
    name=NAMES,
    superuser=st.booleans(),
    inherit=st.booleans(),
    createrole=st.booleans(),
    createdb=st.booleans(),
    login=st.booleans(),
    replication=st.booleans(),
    bypassrls=st.booleans(),
    connection_limit=st.integers(-1, 2**31 - 1),
    password=st.none() | TEXTS,
    valid_until=st.none() | TEXTS,
    comment=st.none() | TEXTS,
)


def dumped(role: GlobalRole) -> str:
    """A role as pg_dumpall writes it, every name quoted."""
    flags = " ".join(
        ("" if getattr(role, name) else "NO") + name.upper()
        for name in ("superuser", "inherit", "createrole", "createdb", "login", "replication", "bypassrls")
    )
    more = "" if role.connection_limit == -1 else f" CONNECTION LIMIT {role.connection_limit}"
    more += "" if role.password is None else f" PASSWORD {literal(role.password)}"
    more += "" if role.valid_until is None else f" VALID UNTIL {literal(role.valid_until)}"
    comment = "" if role.comment is None else f"COMMENT ON ROLE {quoted(role.name)} IS {literal(role.comment)};\n"
    return f"CREATE ROLE {quoted(role.name)};\nALTER ROLE {quoted(role.name)} WITH {flags}{more};\n{comment}"


@settings(max_examples=25, deadline=None)
@given(st.lists(ROLES, unique_by=lambda role: role.name, max_size=4))
def test_every_role_is_read_as_it_was_written(roles: list[GlobalRole]) -> None:
    found = parse_globals("--\n-- Roles\n--\n" + "\n".join(dumped(role) for role in roles))
    assert list(found.roles) == roles
    assert found.not_understood == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(ROLES, unique_by=lambda role: role.name, min_size=1, max_size=3), NAMES, TEXTS)
def test_what_is_planned_is_read_back_as_it_was_meant(roles: list[GlobalRole], setting: str, value: str) -> None:
    text = "\n".join(dumped(role) for role in roles)
    text += f"ALTER ROLE {quoted(roles[0].name)} SET {quoted(setting)} TO {literal(value)};\n"
    wanted = [role.name for role in roles if not role.name.startswith("pg_")]
    plan = plan_roles(parse_globals(text), wanted, set(), purpose="restore", server_major=16)
    assert list(plan.names) == wanted
    # CREATE ROLE with attributes is not pg_dumpall's form: the reader takes the attributes by ALTER ROLE.
    created = ";\n".join(f"CREATE ROLE {quoted(name)}" for name in wanted)
    altered = ";\n".join((*plan.create, *plan.configure)).replace("CREATE ROLE ", "ALTER ROLE ")
    back = parse_globals(f"{created};\n{altered};\n")
    for role in roles:
        if role.name in wanted:
            without = {"superuser": False, "replication": False, "bypassrls": False, "comment": role.comment or None}
            assert back.role(role.name) == role.model_copy(update=without)
    assert [item.values for item in back.settings] == ([(value,)] if roles[0].name in wanted else [])


def test_a_servers_own_output_is_understood(any_postgres: PostgresServer) -> None:
    odd = "globals \"odd; -- \\ 'role"
    name = quoted(odd)
    any_postgres.execute(
        "postgres",
        f"CREATE ROLE {name} LOGIN NOINHERIT CREATEDB CONNECTION LIMIT 3 VALID UNTIL '2031-02-03 04:05:06+00'",
        "CREATE ROLE globals_group",
        f"GRANT globals_group TO {name} WITH ADMIN OPTION",
        f"GRANT pg_monitor TO {name}",
        f"ALTER ROLE {name} SET search_path TO 'a b', \"$user\", public",
        f"ALTER ROLE {name} SET app.motto TO E'it''s \\\\; \n CREATE ROLE nobody;'",
        f"COMMENT ON ROLE {name} IS E'a;\n--b \\\\ ''c'''",
        f"GRANT SET ON PARAMETER work_mem TO {name}",
    )
    try:
        output = any_postgres.run("pg_dumpall", "--globals-only").stdout
    finally:
        any_postgres.execute("postgres", f"DROP OWNED BY {name}", f"DROP ROLE {name}", "DROP ROLE globals_group")
    found = parse_globals(decode_globals(output.encode()))
    role = found.role(odd)
    assert role is not None
    assert (role.login, role.inherit, role.createdb, role.superuser, role.connection_limit) == (
        True,
        False,
        True,
        False,
        3,
    )
    assert role.valid_until is not None
    assert role.comment == "a;\n--b \\ 'c'"
    superuser = found.role("postgres")
    assert superuser is not None
    assert superuser.superuser
    assert superuser.password is not None
    assert superuser.password.startswith("SCRAM-SHA-256$")
    assert superuser.password not in repr(superuser)
    assert {setting.name: setting.values for setting in found.settings if setting.role == odd} == {
        "app.motto": ("it's \\; \n CREATE ROLE nobody;",),
        "search_path": ("a b", "$user", "public"),
    }
    memberships = {item.role: item for item in found.memberships if item.member == odd}
    assert memberships.keys() == {"globals_group", "pg_monitor"}
    assert memberships["globals_group"].admin
    assert memberships["globals_group"].granted_by == "postgres"
    assert memberships["pg_monitor"].inherit is (False if any_postgres.major >= 16 else None)
    assert found.role("nobody") is None
    assert found.not_understood == ()
    assert any("PARAMETER work_mem" in text for text in found.left_out)


def test_what_is_not_known_is_named_without_its_strings_and_not_used() -> None:
    found = parse_globals(
        "CREATE ROLE a;\nALTER ROLE a WITH LOGIN FUTURE 'secret-thing' PASSWORD 'hash';\nCREATE USER b;\nALTER ROLE c WITH LOGIN;\n"
    )
    assert found.not_understood == (
        "ALTER ROLE a WITH LOGIN FUTURE '…' PASSWORD …",
        "CREATE USER b",
        "ALTER ROLE c WITH LOGIN",
    )
    assert found.roles == (GlobalRole(name="a"),)


@pytest.mark.parametrize(
    "text",
    [
        "CREATE ROLE a",
        'CREATE ROLE "a;',
        "COMMENT ON ROLE a IS 'b;",
        "COMMENT ON ROLE a IS E'\\x41';",
        "COMMENT ON ROLE a IS U&'b';",
        "COMMENT ON ROLE a IS $$b$$;",
        "\\connect template1\n",
        "/* CREATE ROLE a; */",
        "SET standard_conforming_strings = off;",
    ],
)
def test_what_cannot_be_cut_with_certainty_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        parse_globals(text)


def test_the_encoding_that_it_names_is_used() -> None:
    text = "SET client_encoding = 'LATIN1';\nCREATE ROLE \"müller\";\n"
    assert parse_globals(decode_globals(text.encode("iso8859-1"))).role("müller")
    with pytest.raises(ValueError, match="said to be in UTF8, and byte 44"):
        decode_globals(text.replace("LATIN1", "UTF8").encode("iso8859-1"))
    with pytest.raises(ValueError, match="said to be in BIG5"):
        decode_globals(text.replace("LATIN1", "BIG5").encode("iso8859-1"))


def test_memberships_are_for_new_roles_alone_and_never_given_to_others() -> None:
    found = parse_globals(
        "CREATE ROLE old; CREATE ROLE new; CREATE ROLE other;"
        "GRANT old TO new WITH INHERIT FALSE, SET FALSE GRANTED BY postgres; GRANT new TO old; GRANT other TO new;"
    )
    assert found.memberships[0] == Membership(role="old", member="new", inherit=False, set=False, granted_by="postgres")
    plan = plan_roles(found, ["new", "old", "pg_monitor"], {"old"}, purpose="drill", server_major=16)
    assert plan.create == ('CREATE ROLE "new" WITH INHERIT',)
    assert plan.configure == ('GRANT "old" TO "new" WITH INHERIT FALSE, SET FALSE',)
    assert plan.notes == ("role new was not made a member of other, which is not on the server",)
    older = plan_roles(found, ["new"], {"old"}, purpose="drill", server_major=15)
    assert older.configure == ('GRANT "old" TO "new"',)


def test_a_restore_makes_nobody_a_member_of_those_who_rule_the_server() -> None:
    found = parse_globals("CREATE ROLE new; GRANT postgres TO new; GRANT pg_monitor TO new; GRANT staff TO new;")
    given = {
        "existing": {"postgres", "pg_monitor", "staff"},
        "powerful": {"postgres", "pg_monitor"},
        "server_major": 16,
    }
    plan = plan_roles(found, ["new"], purpose="restore", **given)  # type: ignore[arg-type]
    assert plan.configure == ('GRANT "staff" TO "new"',)
    assert plan.notes[-1].endswith('than this database: GRANT "pg_monitor" TO "new"')
    assert len(plan_roles(found, ["new"], purpose="drill", **given).configure) == 3  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("purpose", "created"),
    [
        ("restore", "CREATE ROLE \"a\" WITH INHERIT CREATEDB LOGIN PASSWORD 'hash'"),
        ("drill", 'CREATE ROLE "a" WITH SUPERUSER INHERIT CREATEDB REPLICATION BYPASSRLS'),
    ],
)
def test_power_over_the_server_is_not_restored_and_drills_have_no_login(purpose: str, created: str) -> None:
    found = parse_globals(
        "CREATE ROLE a; ALTER ROLE a WITH SUPERUSER INHERIT NOCREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS PASSWORD 'hash';"
    )
    plan = plan_roles(found, ["a"], set(), purpose=purpose, server_major=16)  # type: ignore[arg-type]
    assert plan.create == (created,)
    assert bool(plan.notes) == (purpose == "restore")
