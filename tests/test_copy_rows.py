"""Counting rows in pg_restore's SQL, however the text is cut."""

import itertools
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.copy_rows import CopyRows

NAME = st.text(st.sampled_from("aB \"'\n.;(,)-\\C"), min_size=1, max_size=8)
VALUE = st.text(st.sampled_from("aN'\"-\\;. \tCOPY"), max_size=12)


def quoted(name: str) -> str:
    return name if re.fullmatch("[a-z]+", name) else '"' + name.replace('"', '""') + '"'


def copied(schema: str, table: str, columns: list[str], rows: list[str]) -> str:
    header = f"({', '.join(quoted(column) for column in columns)})" if columns else ""
    # COPY doubles backslashes and writes line breaks as \n, so that a row is one line and none is the end's.
    lines = "".join(row.replace("\\", "\\\\") + "\n" for row in rows)
    return f"COPY {quoted(schema)}.{quoted(table)} {header} FROM stdin;\n{lines}\\.\n\n\n"


def count(text: str, cuts: list[int]) -> dict[tuple[str, str], int]:
    rows = CopyRows()
    content = text.encode()
    places = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        rows.feed(content[start:end])
    rows.finish()
    return rows.rows


@settings(deadline=None)  # a busy machine is no mistake
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("table"), NAME, NAME, st.lists(NAME, max_size=3), st.lists(VALUE, max_size=6)),
            st.tuples(st.just("comment"), st.text(st.sampled_from("aC'\" "), max_size=10)),
            st.tuples(st.just("sequence"), NAME),
            st.tuples(st.just("large object"), VALUE),
        ),
        max_size=5,
    ),
    st.lists(st.integers(0, 10_000), max_size=30),
)
def test_rows_are_counted_however_the_text_is_cut(statements: list[tuple[str, ...]], cuts: list[int]) -> None:
    text, expected = "", {}
    for kind, *rest in statements:
        if kind == "table":
            schema, table, columns, rows = rest
            text += copied(schema, table, columns, rows)  # type: ignore[arg-type]
            expected[schema, table] = expected.get((schema, table), 0) + len(rows)
        elif kind == "comment":
            text += f"--\n-- Data for Name: {rest[0]}; Type: TABLE DATA\n--\n\n"
        elif kind == "sequence":
            literal = quoted(rest[0]).replace("'", "''")
            text += f"SELECT pg_catalog.setval('public.{literal}', 1, true);\n\n"
        else:
            text += f"SELECT pg_catalog.lowrite(0, '{rest[0].replace(chr(39), chr(39) * 2)}');\n"
    assert count(text, cuts) == expected


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6, 7, 100])
def test_every_boundary_of_small_pieces_is_harmless(size: int) -> None:
    text = copied("s", "t", ["a"], ["\\.", "x", "COPY a.b (c) FROM stdin;"]) + copied("s", "empty", [], [])
    text += "SELECT setval('\nCOPY no.table (x) FROM stdin;\n', 1);\n"
    text += copied("s", 'q"q', ["a b"], [""] * 7)
    expected = {("s", "t"): 3, ("s", "empty"): 0, ("s", 'q"q'): 7}
    assert count(text, list(range(0, len(text), size))) == expected


def test_a_text_that_ends_within_data_is_refused() -> None:
    rows = CopyRows()
    rows.feed(b"COPY a.b (c) FROM stdin;\n1\n2\n")
    with pytest.raises(ValueError, match=r"within the data of a\.b"):
        rows.finish()


def test_what_is_no_copy_command_is_refused_and_not_kept_for_ever() -> None:
    rows = CopyRows()
    with pytest.raises(ValueError, match="not a COPY command"):
        for _ in range(40):
            rows.feed(b"COPY a.b " + b"x" * 100_000)
