"""A file of SQL in statements, as psql would take it apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.sql_script import ScriptError, fit_statements, split_script


def texts(script: str) -> list[str]:
    return [statement.text for statement in split_script(script)]


# Each of these is one statement, whatever stands around it; most hold a semicolon that ends nothing.
WHOLE = (
    "SELECT 1",
    "SELECT ';', 'it''s;', E'\\';', e'\\\\', U&'\\0041;', b'1'",
    'SELECT 1 AS "a;""b;"',
    "SELECT $$;$$, $tag$ ; $$ ; $other$ ; $tag$, $ä1$;$ä1$",
    "SELECT /* ; /* nested ; ' */ ; */ 1 -- ; '",
    "SELECT a$1 FROM t$$ WHERE b = $1",
    "SELECT foo_e'\\'",
    "CREATE RULE r AS ON INSERT TO t DO ALSO (INSERT INTO u VALUES (1); NOTIFY x)",
    "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END",
    "CREATE OR REPLACE PROCEDURE p() BEGIN ATOMIC INSERT INTO t VALUES (1); END",
    "DO $body$ BEGIN UPDATE t SET a = ';'; END $body$",
    "UPDATE users SET email = md5(email) || '@example.invalid' WHERE email LIKE '%:%'",
    'CREATE TABLE t (begin_at int, "end" int)',
)


@pytest.mark.parametrize("statement", WHOLE)
def test_one_statement_stays_one(statement: str) -> None:
    found = texts(statement + "\n;")
    assert found == [statement]
    assert texts(statement) == found


@given(
    parts=st.lists(
        st.tuples(st.sampled_from(WHOLE), st.sampled_from(["", "\n", " \n\n", "-- it's; a note\n", "/* ' ; */", ";;"])),
        max_size=8,
    )
)
def test_many_statements_are_told_apart_with_their_lines(parts: list[tuple[str, str]]) -> None:
    script, lines = "", []
    for statement, filler in parts:
        script += filler
        lines.append(script.count("\n") + 1)
        script += statement + "\n;"
    found = split_script(script)
    assert [item.text for item in found] == [statement for statement, _ in parts]
    assert [item.line for item in found] == lines


@given(script=st.text("ab;'\"$-/*\\\n (eE).", max_size=40))
def test_any_text_is_split_or_refused_and_nothing_is_lost(script: str) -> None:
    try:
        found = split_script(script)
    except ScriptError as error:
        assert 1 <= error.line <= script.count("\n") + 1
        return
    position = 0
    for statement in found:
        assert statement.text == statement.text.strip()
        position = script.index(statement.text, position) + len(statement.text)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\n\\copy t FROM 'x'", r"line 2: \copy is a command of psql"),
        ("\\set ON_ERROR_STOP on\n", r"line 1: \set is a command of psql"),
        ("SELECT 1 \\gexec\n", r"line 1: \gexec is a command of psql"),
        ("SELECT 1;\nSELECT 'open", "line 2: the quote ' is not closed"),
        ("SELECT E'open\\'", "line 1: the quote E' is not closed"),
        ('SELECT "open', 'line 1: the quote " is not closed'),
        ("\n\nDO $x$ BEGIN END $y$", "line 3: the quote $x$ is not closed"),
        ("/* /* */ SELECT 1", "line 1: the comment /* is not closed"),
        ("SELECT 1;\nSELECT (2;\nSELECT 3", "line 2: a parenthesis is not closed"),
    ],
)
def test_what_psql_alone_knows_or_what_is_not_closed_is_refused_with_its_line(script: str, message: str) -> None:
    with pytest.raises(ScriptError) as caught:
        split_script(script)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "statement",
    [
        "BEGIN",
        "begin work",
        "START TRANSACTION READ ONLY",
        "COMMIT;",
        "/* now */ Commit AND CHAIN",
        "-- end\nEND",
        "ROLLBACK",
        "ROLLBACK WORK AND NO CHAIN",
        "ABORT",
        "PREPARE TRANSACTION 'x'",
        "COMMIT PREPARED 'x'",
        "ROLLBACK PREPARED 'x'",
    ],
)
def test_what_begins_or_ends_a_transaction_is_refused_with_its_line(statement: str) -> None:
    with pytest.raises(ScriptError, match=r"line [23]: .* would begin or end a transaction"):
        fit_statements(f"SELECT 1;\n{statement};\n")


@pytest.mark.parametrize(
    "statement", ["COPY t (a, b) FROM STDIN WITH (FORMAT csv)", "copy t from stdin", "COPY t TO STDOUT"]
)
def test_copying_over_the_connection_is_refused(statement: str) -> None:
    with pytest.raises(ScriptError, match="line 1: COPY FROM STDIN and TO STDOUT need psql"):
        fit_statements(statement)


def test_what_only_looks_like_these_is_let_through() -> None:
    script = (
        "SAVEPOINT a; ROLLBACK TO a; ROLLBACK WORK TO SAVEPOINT a; ROLLBACK TRANSACTION TO a; RELEASE a;"
        "COPY t FROM '/srv/stdin'; PREPARE transaction_plan AS SELECT 1; SELECT 'COMMIT'; DO $$ BEGIN NULL; END $$;"
    )
    assert fit_statements(script) == split_script(script)
