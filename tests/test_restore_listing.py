"""Which entries of a dump are restored: whatever is chosen, what is restored is whole in itself, and what is missing is named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.manifest import Column, Table
from core.partial_listing import choose_tables, chosen_tables
from core.restore_listing import Choice, Listed, choose_all, parse_contents

LISTING = """;
; Archive created at 2026-01-01 00:00:00 UTC
;     dbname: shop
;
; Selected TOC Entries:
;
1; 0 0 ENCODING ENCODING ENCODING
2; 1262 16384 DATABASE - shop owner
10; 2615 20 SCHEMA - audit owner
11; 3079 30 EXTENSION - citext~
12; 0 0 COMMENT - EXTENSION citext~
;	depends on: 11
20; 1259 100 TABLE public parent owner
21; 1259 101 TABLE public child owner
;	depends on: 11
22; 1259 102 SEQUENCE public child_id_seq owner
;	depends on: 21
23; 0 0 SEQUENCE OWNED BY public child_id_seq owner
;	depends on: 22 21
24; 1259 103 VIEW public both owner
;	depends on: 20 21
30; 0 100 TABLE DATA public parent owner
;	depends on: 20
31; 0 101 TABLE DATA public child owner
;	depends on: 21
32; 0 0 SEQUENCE SET public child_id_seq owner
;	depends on: 22
40; 2606 200 CONSTRAINT public parent parent_pkey owner
;	depends on: 20
41; 2606 201 FK CONSTRAINT public child child_fkey owner
;	depends on: 40 21 20
42; 0 0 COMMENT public CONSTRAINT child_fkey ON child owner
;	depends on: 41
43; 2618 300 RULE public grouped _RETURN owner
;	depends on: 40 20
44; 2620 301 TRIGGER public child checked owner
;	depends on: 21 20
""".replace("~", " ")  # the blank before an owner that is not there


def table(oid: int, name: str, *, schema: str = "public", routed: tuple[str, str] | None = None) -> Table:
    return Table(
        oid=oid,
        schema_name=schema,
        name=name,
        owner="owner",
        persistence="permanent",
        columns=(),
        mode="off",
        rows=None,
        digest=None,
        digest_sql=None,
        size_bytes=0,
        counters={},
        routed_through=routed,
    )


TABLES = (table(100, "parent"), table(101, "child"))


def ids(choice: Choice) -> set[int]:
    """The dump ids of the list file, as pg_restore reads it: a number at a line's beginning, a semicolon ends what counts."""
    return {int(line.split(";")[0]) for line in choice.list_text.splitlines()}


def every(listed: Listed) -> set[int]:
    return {entry.dump_id for entry in listed.entries}


def test_everything_is_listed_but_what_pg_restore_sees_to_itself() -> None:
    choice = choose_all(parse_contents(LISTING))
    assert ids(choice) == {10, 11, 12, 20, 21, 22, 23, 24, 30, 31, 32, 40, 41, 42, 43, 44}
    assert choice.skipped == ()
    assert choice.entries == 16


def test_with_an_extension_goes_what_cannot_be_without_it_and_it_is_named() -> None:
    choice = choose_all(parse_contents(LISTING), missing_extensions=("citext", "postgis"))
    assert ids(choice) == {10, 20, 30, 40, 43}
    reasons = {skipped.entry: skipped.why for skipped in choice.skipped}
    assert reasons["EXTENSION - citext"] == "the server has no extension citext"
    assert reasons["TABLE DATA public child owner"] == "it needs the extension citext"
    assert len(reasons) == 11


def test_a_child_without_its_parents_rows_loses_the_key_and_it_is_named() -> None:
    choice = choose_tables(parse_contents(LISTING), TABLES, ("public.child",))
    # The view's rule groups by the parent's key, which it brings along.
    assert ids(choice) == {10, 11, 12, 20, 21, 22, 23, 24, 31, 32, 40, 43, 44}
    (skipped,) = choice.skipped
    assert skipped.entry == "FK CONSTRAINT public child child_fkey owner"
    assert skipped.why == "rows of public.parent are not restored"
    assert "rows of 1 of 2 tables" in choice.notes[0]


def test_a_parent_alone_brings_neither_keys_nor_triggers_of_others() -> None:
    choice = choose_tables(parse_contents(LISTING), TABLES, ("public.parent",))
    assert ids(choice) == {10, 11, 12, 20, 21, 22, 23, 24, 30, 40, 43}
    assert choice.skipped == ()


LARGE = (
    LISTING
    + """50; 2613 4711 BLOB - 4711 owner
51; 0 0 BLOBS - BLOBS ~
;	depends on: 50
""".replace("~", " ")
)


def test_large_objects_are_left_out_of_a_partial_restore_with_a_word_and_where_they_are_missed_by_name() -> None:
    listed = parse_contents(LARGE)
    choice = choose_tables(listed, TABLES, ("public.child",))
    assert not ids(choice) & {50, 51}
    assert any("large objects of the backup were left out" in note for note in choice.notes)
    assert not any(skipped.entry == "LARGE OBJECTS" for skipped in choice.skipped)
    columns = (Column(name="id", type="bigint", hashed_as="native"), Column(name="scan", type="oid", hashed_as="text"))
    referring = (TABLES[0], TABLES[1].model_copy(update={"columns": columns}))
    (missed,) = (
        one for one in choose_tables(listed, referring, ("public.child",)).skipped if one.entry == "LARGE OBJECTS"
    )
    assert "public.child (scan)" in missed.why
    assert not any(one.entry == "LARGE OBJECTS" for one in choose_tables(listed, referring, ("public.parent",)).skipped)
    # Whole: they come along, and nobody says otherwise.
    assert {50, 51} <= ids(choose_all(listed))
    assert choose_all(listed).notes == ()


def test_the_files_that_a_choice_needs_are_its_tables_rows() -> None:
    listed = parse_contents(LISTING)
    assert choose_tables(listed, TABLES, ("public.child",)).data == (31,)
    assert choose_all(listed).data == (30, 31)


PARTS = """1; 1259 1 TABLE public p owner
2; 1259 2 TABLE public p_1 owner
3; 1259 3 TABLE public p_2 owner
4; 1259 4 TABLE public other owner
10; 0 0 TABLE ATTACH public p_1 owner
;	depends on: 2 1
11; 0 0 TABLE ATTACH public p_2 owner
;	depends on: 3 1
20; 0 2 TABLE DATA public p_1 owner
;	depends on: 2
21; 0 3 TABLE DATA public p_2 owner
;	depends on: 3
22; 0 4 TABLE DATA public other owner
;	depends on: 4
30; 1259 30 INDEX public p_id owner
;	depends on: 1
31; 1259 31 INDEX public p_1_id owner
;	depends on: 2
32; 1259 32 INDEX public p_2_id owner
;	depends on: 3
33; 0 0 INDEX ATTACH public p_1_id owner
;	depends on: 30 31
34; 0 0 INDEX ATTACH public p_2_id owner
;	depends on: 30 32
35; 2606 35 FK CONSTRAINT public other other_p owner
;	depends on: 30 4 1
36; 2606 36 FK CONSTRAINT public p p_self owner
;	depends on: 30 1
"""


def test_one_partition_brings_the_indexes_of_all_and_no_key_to_the_others_rows() -> None:
    parts = (table(2, "p_1"), table(3, "p_2"), table(4, "other"))
    choice = choose_tables(parse_contents(PARTS), parts, ("public.p_1", "public.other"))
    assert ids(choice) == {1, 2, 3, 4, 10, 11, 20, 22, 30, 31, 32, 33, 34}
    assert {skipped.entry.split()[4] for skipped in choice.skipped} == {"other_p", "p_self"}
    whole = choose_tables(parse_contents(PARTS), parts, ("public.p", "public.other"))
    assert ids(whole) == every(parse_contents(PARTS))


def test_partitions_that_are_loaded_through_their_root_are_chosen_together() -> None:
    routed = (table(2, "p_1", routed=("public", "p")), table(3, "p_2", routed=("public", "p")), table(4, "other"))
    assert {one.name for one in chosen_tables(parse_contents(PARTS), routed, ("public.p_1",))} == {"p_1", "p_2"}


@pytest.mark.parametrize("pattern", ["public.nothing", "nothing.*", "child", "*", ""])
def test_a_pattern_that_chooses_nothing_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="no table with rows in this backup is called"):
        choose_tables(parse_contents(LISTING), TABLES, ("public.child", pattern))


def test_names_that_can_be_read_in_two_ways_are_refused() -> None:
    dotted = (table(100, "b.c", schema="a"), table(101, "c", schema="a.b"))
    with pytest.raises(ValueError, match="can mean 2 tables"):
        choose_tables(parse_contents(LISTING), dotted, ("a.b.c",))


@st.composite
def graphs(draw: st.DrawFn) -> tuple[str, tuple[Table, ...], list[tuple[int, int]]]:
    """A listing of some tables with keys between them, the tables, and the keys as pairs of numbers."""
    count = draw(st.integers(1, 6))
    keys = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=8))
    lines = [f"{100 + n}; 1259 {n} TABLE public t{n} owner" for n in range(count)]
    lines += [f"{200 + n}; 0 {n} TABLE DATA public t{n} owner\n;\tdepends on: {100 + n}" for n in range(count)]
    lines += [
        f"{300 + n}; 2606 {30 + n} CONSTRAINT public t{n} t{n}_pkey owner\n;\tdepends on: {100 + n}"
        for n in range(count)
    ]
    lines += [
        f"{400 + k}; 2606 {90 + k} FK CONSTRAINT public t{a} key{k} owner\n;\tdepends on: {100 + a} {100 + b} {300 + b}"
        for k, (a, b) in enumerate(keys)
    ]
    return "\n".join(lines), tuple(table(n, f"t{n}") for n in range(count)), keys


@given(graphs(), st.data())
def test_no_key_is_restored_without_the_rows_it_needs_and_none_is_lost_without_a_word(
    graph: tuple[str, tuple[Table, ...], list[tuple[int, int]]], data: st.DataObject
) -> None:
    text, tables, keys = graph
    chosen = data.draw(st.sets(st.sampled_from(range(len(tables))), min_size=1))
    listed = parse_contents(text)
    choice = choose_tables(listed, tables, [f"public.t{n}" for n in chosen])
    kept, named = ids(choice), {skipped.entry for skipped in choice.skipped}
    assert {number for number in kept if number < 300} == {100 + t.oid for t in tables} | {200 + n for n in chosen}
    assert {300 + n for n in chosen} <= kept
    for k, (a, b) in enumerate(keys):
        whole = a in chosen and b in chosen
        assert (400 + k in kept) == whole
        assert (f"FK CONSTRAINT public t{a} key{k} owner" in named) == (a in chosen and b not in chosen)
    # What is kept has all that it depends on.
    for number in kept:
        assert set(listed.depends_on.get(number, ())) <= kept
    if len(chosen) == len(tables):
        assert kept == ids(choose_all(listed))


def test_what_is_not_a_listing_is_refused() -> None:
    with pytest.raises(ValueError, match="not a line of pg_restore --list"):
        parse_contents("pg_restore: error: no\n")


def test_a_name_may_hold_what_python_takes_for_a_lines_end() -> None:
    name = "u\u2028\u2029\x85\x0b\x0c\x1e"
    listed = parse_contents(
        f"7; 1259 100 TABLE public {name} owner\n;\tdepends on: 3\n9; 0 100 TABLE DATA public {name} owner\n"
    )
    assert [(entry.dump_id, entry.words) for entry in listed.entries] == [
        (number, f"public {name} owner") for number in (7, 9)
    ]
    assert listed.depends_on == {7: (3,)}


def test_a_partitioned_table_is_chosen_by_its_own_name_though_a_line_feed_in_it_is_printed_as_a_blank() -> None:
    listing = (
        "1; 1259 1 TABLE public a b owner\n2; 1259 2 TABLE public leaf owner\n3; 0 0 TABLE ATTACH public leaf owner\n;\tdepends on: 1 2\n"
        "4; 0 2 TABLE DATA public leaf owner\n"
    )
    choice = choose_tables(parse_contents(listing), (table(2, "leaf"),), ["public.a\nb"])
    assert choice.data == (4,)
