"""An environment's own rules on a restored copy: SQL with an expected value, and a command that tries it out."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

from core.checks import Check
from core.environment_database import Database
from core.environment_restore import Invariant
from core.errors import TemporaryError
from core.redaction import MASK
from tasks.invariants import check_invariants, run_smoke_command
from tests.fix_postgres import PostgresServer

TABLES = (
    "CREATE SCHEMA app",
    "CREATE TABLE app.account (id int, name text, paid bool)",
    "INSERT INTO app.account VALUES (1, 'a%', true), (2, NULL, false)",
)


@pytest.fixture(scope="module")
def copy(postgres_16: PostgresServer) -> Database:
    name = "invariants"
    postgres_16.execute("postgres", f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
    postgres_16.execute(
        name,
        *TABLES,
        f"ALTER DATABASE {name} SET search_path = app",
        f"ALTER DATABASE {name} SET \"DateStyle\" = 'SQL, DMY'",
    )
    return postgres_16.database(name)


def ask(copy: Database, sql: str, expected: str = "") -> Check:
    (check,) = check_invariants(copy, [Invariant(name="rule", database="app", sql=sql, expected=expected)])
    return check


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT count(*) FROM account", "2"),
        ("SELECT count(*) FROM account;", "2"),
        ("SELECT name FROM account WHERE name LIKE 'a\\%'", "a%"),
        ("SELECT bool_and(paid) FROM account", "f"),
        ("SELECT name FROM account WHERE id = 2", ""),
        ("SELECT DATE '2026-02-01'", "01/02/2026"),
        ("SELECT 1.50", "1.50"),
        ("WITH both_ AS (SELECT 1) SELECT * FROM both_ -- a comment", "1"),
        ("VALUES ('x')", "x"),
    ],
)
def test_a_value_is_compared_as_psql_prints_it(copy: Database, sql: str, expected: str) -> None:
    assert ask(copy, sql, expected).state == "passed"
    wrong = ask(copy, sql, "something else")
    assert wrong.state == "failed"
    assert "'something else' was expected" in wrong.found


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        ("SELECT id FROM account WHERE false", "0 rows"),
        ("SELECT id FROM account", "more than one row"),
        ("SELECT id, name FROM account WHERE id = 1", "1 rows of 2 columns"),
        ("SELECT 1 / 0", "division by zero"),
        ("SELECT * FROM nowhere", 'relation "nowhere" does not exist'),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands"),
        ("INSERT INTO account VALUES (3) RETURNING id", "syntax error"),
        ("SELECT lo_from_bytea(0, 'x')", "read-only transaction"),
        ("SELECT nextval('s')", "does not exist"),
    ],
)
def test_a_query_that_says_nothing_fails(copy: Database, sql: str, found: str) -> None:
    check = ask(copy, sql, "1")
    assert check.state == "failed"
    assert found in check.found


def test_a_long_value_is_cut_in_the_report(copy: Database) -> None:
    assert len(ask(copy, "SELECT repeat('x', 100000)", "x").found) < 300


def test_one_failure_does_not_stop_the_others(copy: Database) -> None:
    invariants = [
        Invariant(name="bad", database="app", sql="SELECT 1 / 0", expected="1"),
        Invariant(name="good", database="app", sql="SELECT 1", expected="1"),
    ]
    assert [check.state for check in check_invariants(copy, invariants)] == ["failed", "passed"]
    assert check_invariants(copy, []) == ()


def test_a_query_that_takes_too_long_fails_by_itself(copy: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.invariants.INVARIANT_SECONDS", 1)
    check = ask(copy, "SELECT pg_sleep(30)")
    assert check.state == "failed"
    assert "statement timeout" in check.found


def test_a_lost_server_is_no_failed_invariant(copy: Database) -> None:
    with pytest.raises(TemporaryError):
        ask(copy, "SELECT pg_terminate_backend(pg_backend_pid())", "t")


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    def make(text: str) -> str:
        path = tmp_path / "smoke"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)

    return make


def test_a_smoke_command_gets_the_copys_login_and_nothing_else(
    copy: Database, script: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of the worker")
    seen = tmp_path / "seen"
    check = run_smoke_command([script(f'/usr/bin/env > {seen}; test "$1" = "an argument"'), "an argument"], copy, 20)
    assert (check.state, check.found) == ("passed", "it ended with exit code 0")
    names = {line.split("=", 1)[0] for line in seen.read_text().splitlines()}
    # What the shell makes, and Python's guard before it (PEP 538).
    assert {name for name in names if not name.startswith("PG")} <= {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert {"PGHOST", "PGPORT", "PGDATABASE", "PGUSER", "PGPASSWORD"} <= names


def test_a_smoke_command_reaches_the_copy(copy: Database, postgres_16: PostgresServer) -> None:
    check = run_smoke_command([str(postgres_16.bin / "pg_isready")], copy, 20)
    assert check.state == "passed"
    failed = run_smoke_command([str(postgres_16.bin / "pg_dump"), "--table=nowhere", "--file=/dev/null"], copy, 20)
    assert failed.state == "failed"
    assert "no matching tables were found" in failed.found


def test_a_smoke_command_that_fails_or_is_not_there_fails(copy: Database, script: Callable[[str], str]) -> None:
    check = run_smoke_command([script("echo not well >&2; exit 3")], copy, 20)
    assert check.state == "failed"
    assert "exit code 3: not well" in check.found
    assert run_smoke_command(["/nowhere/smoke"], copy, 20).state == "failed"


def test_what_a_smoke_command_says_is_told_without_its_password_and_in_little(
    copy: Database, script: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for password in ('pass "word/\\ with%signs', "abc"):
        monkeypatch.setenv("NS_TEST_SMOKE", password)
        login = copy.model_copy(update={"password": "env:NS_TEST_SMOKE"})
        said = [password, quote(password, safe=""), json.dumps({"pw": password})]
        words = " ".join(f"'{one}'" for one in said)
        check = run_smoke_command(
            [script(f"printf '%s\\n' {words} \"$PGPASSWORD\" >&2; echo out of $PGPASSWORD; exit 1")], login, 20
        )
        assert check.state == "failed"
        assert MASK in check.found
        assert not any(
            secret in check.found for secret in (password, quote(password, safe=""), json.dumps(password)[1:-1])
        )
    flood = run_smoke_command(
        [script("printf '\\033[31mred\\n' >&2; seq 1 20000 >&2; echo at the end >&2; exit 4")], copy, 20
    )
    assert len(flood.found) <= 1000
    assert flood.found.startswith("smoke ended with exit code 4: ")
    assert flood.found.endswith("at the end")
    assert flood.found.isprintable()


def test_a_smoke_command_that_does_not_end_is_killed_with_its_children(
    copy: Database, script: Callable[[str], str], tmp_path: Path
) -> None:
    pid = tmp_path / "pid"
    check = run_smoke_command([script(f"sleep 60 & echo $! > {pid}; wait")], copy, 1)
    assert check.state == "failed"
    assert "has not ended after 1 s" in check.found
    # Gone, or dead and not yet waited for by whoever adopted it.
    status = Path(f"/proc/{pid.read_text().strip()}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"
