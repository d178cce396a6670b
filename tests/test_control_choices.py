"""Which table, rows and columns a negative control takes: what is chosen is always a damage, and it rotates."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from core.manifest import Column, Table
from core.negative_controls import (
    SMALL_BYTES,
    Place,
    Row,
    changes,
    duplicates,
    exchanges,
    flipped,
    order_of_places,
    removal_of_keys,
    rotated,
)

TYPES = ("integer", "text", "character varying(10)", "timestamp(3) with time zone", "text[]", "public.plan")


def place(name: str = "t", columns: int = 3, **more: object) -> Place:
    table = Table(
        oid=1,
        schema_name="s",
        name=name,
        owner="o",
        persistence="permanent",
        columns=tuple(
            Column(name=f"c{number}", type=TYPES[number % len(TYPES)], hashed_as="text") for number in range(columns)
        ),
        mode="full",
        rows=1,
        digest="0",
        digest_sql="SELECT",
        size_bytes=0,
        counters={},
    )
    fields: dict[str, object] = {
        "table": table,
        "size_bytes": 8192,
        "writable": tuple(column.name for column in table.columns),
    }
    return Place.model_validate(fields | more)


rows_of_three = st.lists(st.tuples(*[st.sampled_from("ab")] * 3), max_size=5).map(
    lambda values: [Row(address=f"(0,{number})", values=value) for number, value in enumerate(values, 1)]
)


def multiset(rows: list[Row]) -> Counter[tuple[str, ...]]:
    return Counter(row.values for row in rows)


@given(rows_of_three, st.integers(0, 1000))
def test_an_exchange_always_changes_the_set_of_rows(rows: list[Row], rotation: int) -> None:
    found = list(exchanges(place(), rows, rotation))
    for exchange in found:
        at = int(exchange.column[1:])
        swapped = []
        for row in rows:
            partner = exchange.other if row is exchange.one else exchange.one if row is exchange.other else row
            values = list(row.values)
            values[at] = partner.values[at]
            swapped.append(Row(address=row.address, values=tuple(values)))
        assert multiset(swapped) != multiset(rows)
        assert exchange.hashes == (exchange.one.values[at], exchange.other.values[at])
    possible = any(sum(x != y for x, y in zip(a.values, b.values, strict=True)) >= 2 for a in rows for b in rows)
    assert bool(found) == possible


@given(rows_of_three, st.integers(0, 1000))
def test_a_duplicate_always_changes_the_set_of_rows_and_not_their_number(rows: list[Row], rotation: int) -> None:
    found = list(duplicates(place(), rows, rotation))
    for duplicate in found:
        after = [duplicate.copied if row is duplicate.gone else row for row in rows]
        assert multiset(after) != multiset(rows)
    assert bool(found) == (len(multiset(rows)) > 1)


@given(rows_of_three, st.integers(0, 1000))
def test_a_change_sets_one_column_of_one_row(rows: list[Row], rotation: int) -> None:
    found = list(changes(place(), rows, rotation))
    assert bool(found) == bool(rows)
    assert all(
        f"'{change.row.address}'::tid" in change.sql and f'SET "{change.column}" = ' in change.sql for change in found
    )


def test_generated_columns_are_never_set() -> None:
    rows = [Row(address="(0,1)", values=("a", "b", "c")), Row(address="(0,2)", values=("d", "e", "f"))]
    limited = place(writable=("c1",))
    assert {change.column for change in changes(limited, rows, 5)} == {"c1"}
    assert {exchange.column for exchange in exchanges(limited, rows, 5)} == {"c1"}
    assert '("c1")' in next(duplicates(limited, rows, 5)).insert


def test_each_type_has_its_step() -> None:
    row = [Row(address="(0,1)", values=tuple("abcdef"))]
    steps = {change.column: change.sql for change in reversed(list(changes(place(columns=6), row, 0)))}
    assert '"c0" = "c0" + 1 ' in steps["c0"]
    assert '"c1" = left("c1", -1)' in steps["c1"]
    assert '"c2" = left("c2", -1)' in steps["c2"]
    assert '"c3" = "c3" + interval \'1 microsecond\' ' in steps["c3"]
    assert '"c4" = "c4" || "c4" ' in steps["c4"]
    assert '"c5" = NULL ' in steps["c5"]


@given(st.lists(st.integers(), max_size=6), st.integers(0, 100))
def test_a_rotation_keeps_everything(items: list[int], rotation: int) -> None:
    assert sorted(rotated(items, rotation)) == sorted(items)
    if items:
        assert rotated(items, rotation)[0] == items[rotation % len(items)]


def test_small_tables_without_obstacles_come_first_and_large_ones_last() -> None:
    places = [
        place("large", size_bytes=SMALL_BYTES * 40),
        place("larger", size_bytes=SMALL_BYTES * 50),
        place("ruled", rules=("r",)),
        place("a"),
        place("b"),
    ]
    order = [one.table.name for one in order_of_places(places, 1)]
    assert order == ["b", "a", "ruled", "large", "larger"]
    assert order_of_places(places, 2)[0].table.name == "a"


def test_names_are_quoted() -> None:
    odd = place('t"; DROP', parent=("s", 'p"'), keys=('k"',), indexes=(("s", 'i"'),))
    assert removal_of_keys(odd) == (
        'ALTER TABLE "s"."p""" DETACH PARTITION "s"."t""; DROP"',
        'ALTER TABLE ONLY "s"."t""; DROP" DROP CONSTRAINT "k""" CASCADE',
        'DROP INDEX "s"."i""" CASCADE',
    )


@given(st.binary(min_size=1, max_size=200), st.integers(0, 10**12))
def test_a_flip_changes_one_bit(content: bytes, rotation: int) -> None:
    damaged, position = flipped(content, rotation)
    different = [(a ^ b, at) for at, (a, b) in enumerate(zip(content, damaged, strict=True)) if a != b]
    assert [at for _bits, at in different] == [position]
    assert different[0][0].bit_count() == 1
