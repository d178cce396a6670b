"""What somebody with the backup role's password can and cannot do, by the statements of docs/quickstart.md on a real server."""

import re
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest

from tests.fix_platform import CHECKOUT
from tests.fix_postgres import PostgresServer

PAGE = CHECKOUT / "docs" / "quickstart.md"
HIDDEN = (
    "CREATE TABLE public.account (id int PRIMARY KEY, balance int)",
    "INSERT INTO public.account VALUES (1, 100), (2, 200)",
    "ALTER TABLE public.account ENABLE ROW LEVEL SECURITY",
    "CREATE SEQUENCE public.numbers",
    "CREATE SCHEMA hidden",
    "CREATE TABLE hidden.note (said text)",
    "INSERT INTO hidden.note VALUES ('a secret')",
    "CREATE FUNCTION public.owners_own() RETURNS void LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog AS 'UPDATE public.account SET balance = 0 WHERE id = 2'",
)
CHANGES = (
    "INSERT INTO public.account VALUES (3, 0)",
    "UPDATE public.account SET balance = 0",
    "DELETE FROM public.account",
    "TRUNCATE public.account",
    "COPY public.account FROM STDIN",
    "LOCK TABLE public.account IN ACCESS EXCLUSIVE MODE",
    "SELECT nextval('public.numbers')",
    "SELECT setval('public.numbers', 99)",
    "CREATE TABLE public.mine (a int)",
    "CREATE SCHEMA mine",
    "ALTER TABLE public.account DISABLE ROW LEVEL SECURITY",
    "ALTER TABLE public.account ADD COLUMN mine int",
    "DROP TABLE public.account",
    "CREATE OR REPLACE FUNCTION public.owners_own() RETURNS void LANGUAGE sql AS 'SELECT'",
    "CREATE ROLE mine",
    "ALTER ROLE postgres PASSWORD 'mine'",
    "GRANT pg_write_all_data TO CURRENT_USER",
    "SET ROLE pg_write_all_data",
    "CREATE DATABASE mine",
    "ALTER SYSTEM SET fsync = off",
    "SELECT pg_read_file('PG_VERSION')",
    "COPY (SELECT 1) TO PROGRAM 'true'",
)


def documented(role: str, password: str) -> list[str]:
    """The statements of the page, for another name and password."""
    text = PAGE.read_text().replace("nightshift_backup", role).replace("'…'", f"'{password}'")
    return re.findall(rf"^    ((?:CREATE ROLE|GRANT|ALTER ROLE) .*\b{role}\b.*);$", text, re.MULTILINE)


@pytest.fixture
def thief(
    any_postgres: PostgresServer, fresh_database: Callable[..., str], fresh_role: Callable[..., tuple[str, str]]
) -> Iterator[psycopg.Connection[Any]]:
    """A session of the documented role in a database of somebody else's."""
    name = fresh_database(any_postgres, *HIDDEN)
    # The fixture removes what it made; the role itself is the page's.
    role, password = fresh_role(any_postgres)
    any_postgres.execute("postgres", f"DROP ROLE {role}")
    statements = documented(role, password)
    assert len(statements) == 2
    any_postgres.execute("postgres", *statements)
    with any_postgres.connect(name, user=role, password=password) as connection:
        yield connection


def refused(connection: psycopg.Connection[Any], statement: str) -> bool:
    """Whether a statement is refused for want of a right; whatever it did is undone, where it can be."""
    alone = statement.startswith(("CREATE DATABASE", "ALTER SYSTEM"))
    try:
        with nullcontext() if alone else connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.errors.InsufficientPrivilege:
        return True
    return False


def test_the_backup_role_reads_everything_and_changes_nothing_that_is_there(thief: psycopg.Connection[Any]) -> None:
    assert thief.execute("SELECT sum(balance) FROM public.account").fetchone() == (300,)
    assert thief.execute("SELECT said FROM hidden.note").fetchone() == ("a secret",)
    # pg_read_all_data leaves no catalogue out.
    assert thief.execute("SELECT count(*) FROM pg_authid WHERE rolpassword LIKE 'SCRAM-SHA-256$%'").fetchone() != (0,)
    assert [one for one in CHANGES if not refused(thief, one)] == []


def test_the_backup_role_can_do_what_the_server_lets_everybody_do(thief: psycopg.Connection[Any]) -> None:
    with thief.transaction(force_rollback=True):
        thief.execute("CREATE TEMPORARY TABLE filler AS SELECT 1")
        thief.execute("SELECT lo_create(0)")
        thief.execute("LOCK TABLE public.account IN ACCESS SHARE MODE")
        thief.execute("SELECT public.owners_own()")
        assert thief.execute("SELECT sum(balance) FROM public.account").fetchone() == (100,)
