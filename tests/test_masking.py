"""Masking files on real servers: all of it or nothing, and what does not belong into one transaction is refused by its line."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from core.errors import ConfigurationError, PermanentError, TemporaryError
from core.sql_script import Statement, split_script
from tasks.masking import check_masking, mask_copy
from tests.fix_postgres import PostgresServer

PEOPLE = (
    "CREATE SCHEMA app",
    "CREATE TABLE app.people (id int PRIMARY KEY, email text UNIQUE, pin int)",
    "INSERT INTO app.people SELECT n, 'person' || n || '@corp.example', n FROM generate_series(1, 5) AS n",
)
NewDatabase = Callable[..., str]


@pytest.fixture(params=[15, 18], ids=lambda major: f"pg{major}")
def server(request: pytest.FixtureRequest) -> PostgresServer:
    found: PostgresServer = request.getfixturevalue(f"postgres_{request.param}")
    return found


@pytest.fixture(scope="module")
def made() -> Iterator[dict[int, tuple[PostgresServer, str]]]:
    databases: dict[int, tuple[PostgresServer, str]] = {}
    yield databases
    for server, name in databases.values():
        server.execute("postgres", f"DROP DATABASE {name}")


@pytest.fixture
def unmasked(server: PostgresServer, made: dict[int, tuple[PostgresServer, str]]) -> str:
    """A database that all tests share which leave it as it is."""
    if server.major not in made:
        name = f"unmasked_{secrets.token_hex(4)}"
        server.execute("postgres", f"CREATE DATABASE {name} TEMPLATE template0")
        server.execute(name, *PEOPLE)
        made[server.major] = (server, name)
    return made[server.major][1]


def emails(server: PostgresServer, name: str) -> list[str]:
    with server.connect(name) as connection:
        return [row[0] for row in connection.execute("SELECT email FROM app.people ORDER BY id").fetchall()]


UNMASKED = [f"person{number}@corp.example" for number in range(1, 6)]


def test_a_file_is_run_in_the_databases_own_search_path_and_then_analyzed(
    server: PostgresServer, fresh_database: NewDatabase, tmp_path: Path
) -> None:
    name = fresh_database(server, *PEOPLE)
    server.execute("postgres", f'ALTER DATABASE "{name}" SET search_path = app, public')
    file = tmp_path / "mask.sql"
    file.write_text(
        "-- it's all masked; every row\n"
        "UPDATE people SET email = 'user' || id || '@example.invalid' WHERE email LIKE '%@%';\n"
        "SAVEPOINT before_pins;\nUPDATE people SET pin = 0;\nROLLBACK TO before_pins;\n"
        "CREATE FUNCTION pin(n int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n * 0; SELECT 7; END;\n"
        "DO $$ BEGIN UPDATE people SET pin = pin(pin); END $$;\n"
        "SELECT ';' \"%s\" FROM people;\nDELETE FROM people WHERE id = 5",
        encoding="utf-8-sig",
    )
    outcome = mask_copy(server.database(name), file)
    assert emails(server, name) == [f"user{number}@example.invalid" for number in range(1, 5)]
    assert (outcome.statements, outcome.rows) == (8, 11)
    with server.connect(name) as connection:
        assert connection.execute("SELECT DISTINCT pin FROM app.people").fetchall() == [(7,)]
        row = connection.execute("SELECT reltuples FROM pg_class WHERE relname = 'people'").fetchone()
        assert row == (4,)
    again = mask_copy(server.database(name), file.read_text(encoding="utf-8-sig").partition("SAVEPOINT")[0])
    assert (again.statements, again.rows) == (1, 4)


@pytest.mark.parametrize(
    ("rest", "line", "message"),
    [
        (
            "UPDATE app.people SET email = 'same';",
            3,
            'duplicate key value violates unique constraint "people_email_key"',
        ),
        (
            "SELECT 1;\n\nUPDATE app.people\n  SET nothing = 1;",
            6,
            'column "nothing" of relation "people" does not exist',
        ),
        ("UPDTE app.people SET pin = 1;", 3, 'syntax error at or near "UPDTE"'),
        ("SELECT 1,\n1 / 0;", 3, "division by zero"),
        ("VACUUM app.people;", 3, "VACUUM cannot run inside a transaction block"),
        ("DO $$ BEGIN COMMIT; END $$;", 3, "invalid transaction termination"),
        (
            "ALTER TABLE app.people ADD CHECK (id < 5) NOT VALID;\nINSERT INTO app.people VALUES (9);",
            4,
            "violates check constraint",
        ),
        (
            "CREATE TABLE app.late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO app.late VALUES (1), (1);",
            4,
            "duplicate key value violates unique constraint",
        ),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_statement_that_fails_is_named_by_its_line_and_nothing_is_committed(
    rest: str, line: int, message: str, server: PostgresServer, unmasked: str
) -> None:
    with pytest.raises(PermanentError) as caught:
        mask_copy(server.database(unmasked), f"UPDATE app.people SET email = upper(email);\nSELECT 1;\n{rest}\n")  # noqa: S608
    assert f"line {line}: " in str(caught.value)
    assert message in str(caught.value)
    assert "@" not in str(caught.value).replace("@ ", ""), "no value of the data stands in the message"
    assert emails(server, unmasked) == UNMASKED


@pytest.mark.parametrize(
    ("rest", "message"),
    [
        ("COMMIT;", "line 3: COMMIT would begin or end a transaction"),
        ("\\i more.sql", r"line 3: \\i is a command of psql"),
        ("COPY app.people FROM STDIN;\n1\ta\t1\n\\.\n", "line 3: COPY FROM STDIN and TO STDOUT need psql"),
        ("COPY app.people FROM STDIN;", "line 3: COPY FROM STDIN and TO STDOUT need psql"),
    ],
)
def test_what_cannot_be_part_of_one_transaction_is_refused_before_anything_runs(
    rest: str, message: str, server: PostgresServer, unmasked: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mask_copy(server.database(unmasked), f"UPDATE app.people SET email = 'x' || id;\n\n{rest}")  # noqa: S608
    assert emails(server, unmasked) == UNMASKED


def test_a_statement_that_ends_the_transaction_unseen_is_found_out(
    server: PostgresServer, fresh_database: NewDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the check before, the one after each statement finds it: by the state, and after COMMIT AND CHAIN by the transaction's number."""
    monkeypatch.setattr("tasks.masking.fit_statements", split_script)
    name = fresh_database(server, *PEOPLE)
    for ending in ("COMMIT", "ROLLBACK", "COMMIT AND CHAIN"):
        with pytest.raises(
            PermanentError, match="line 2: the statement ended the transaction, so a part of the file may be committed"
        ):
            mask_copy(
                server.database(name),
                f"UPDATE app.people SET pin = 1;\n{ending};\nUPDATE app.people SET pin = 2",  # noqa: S608
            )


def test_one_message_carries_one_statement_even_if_the_file_was_split_wrongly(
    server: PostgresServer, unmasked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = Statement(text="UPDATE app.people SET pin = 1; COMMIT", line=1, words=("update",))
    monkeypatch.setattr("tasks.masking.fit_statements", lambda _script: (both,))
    with pytest.raises(PermanentError, match="cannot insert multiple commands into a prepared statement"):
        mask_copy(server.database(unmasked), "whatever")


def test_rows_that_row_security_would_hide_are_not_passed_over(
    server: PostgresServer, fresh_database: NewDatabase, fresh_role: Callable[..., tuple[str, str]]
) -> None:
    role, password = fresh_role(server)
    name = fresh_database(
        server,
        *PEOPLE,
        "ALTER TABLE app.people ENABLE ROW LEVEL SECURITY",
        "CREATE POLICY few ON app.people USING (id < 3)",
        f"GRANT USAGE ON SCHEMA app TO {role}",
        f"GRANT SELECT, UPDATE ON app.people TO {role}",
    )
    with pytest.raises(PermanentError, match="line 1: query would be affected by row-level security policy"):
        mask_copy(server.database(name, user=role, password=password), "UPDATE app.people SET email = id::text")
    assert emails(server, name) == UNMASKED


def test_a_file_that_is_unreadable_or_empty_is_refused(postgres_15: PostgresServer, tmp_path: Path) -> None:
    database = postgres_15.database("postgres")
    with pytest.raises(ConfigurationError, match=r"No such file"):
        mask_copy(database, tmp_path / "none.sql")
    (tmp_path / "latin.sql").write_bytes(b"SELECT '\xe4'")
    with pytest.raises(ConfigurationError, match="it is not UTF-8"):
        mask_copy(database, tmp_path / "latin.sql")
    (tmp_path / "empty.sql").write_text("-- nothing yet;\n;;")
    with pytest.raises(ConfigurationError, match="there is no statement in it"):
        mask_copy(database, tmp_path / "empty.sql")
    assert len(check_masking("SELECT 1; SELECT 2", "x")) == 2


def test_a_server_that_is_away_is_worth_another_try(postgres_15: PostgresServer) -> None:
    with pytest.raises(TemporaryError):
        mask_copy(postgres_15.database("postgres", port=1), "SELECT 1")
