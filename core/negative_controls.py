"""Damages done on purpose to a restored copy, in a transaction that is rolled back: which table, which rows and columns, by which SQL.

A control counts only when the damage is one: exchanging equal values, or rows that are equal but for the exchanged column, leaves the table what it was.
Everything rotates, so that over the days other tables, rows and columns are tried; the same rotation always does the same.
"""

# ruff: noqa: S608 - building SQL is what this module is for; names are quoted, row addresses come from the server

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, product
from typing import TypeVar

from core.digest_sql import quoted
from core.manifest import Record, Size, StoredPart, Table

Item = TypeVar("Item")

# A control digests its table again. Tables up to this size, or this share of the whole, are taken in turn; a larger one only where there is no smaller.
SMALL_BYTES = 16 * 1024 * 1024
SMALL_SHARE = 50
SAMPLE_ROWS = 16
MAXIMUM_ATTEMPTS = 40
# So much of a stored part is held in memory, plain bytes beside it.
PART_BYTES = 16 * 1024 * 1024
_PAGE_BYTES = 8192


class Place(Record):
    """What damage has to know of a table of the copy.

    `writable` are the columns of the digest that a statement may set (not generated ones); `rules` would swallow or add statements and are disabled first;
    `parent` is the partitioned table of a partition; `keys` are its constraints, `indexes` the further unique ones that no two equal rows pass.
    """

    table: Table
    size_bytes: Size
    writable: tuple[str, ...]
    rules: tuple[str, ...] = ()
    lacks_identity: bool = False
    parent: tuple[str, str] | None = None
    keys: tuple[str, ...] = ()
    indexes: tuple[tuple[str, str], ...] = ()

    @property
    def sql_name(self) -> str:
        """The table's name for SQL."""
        return _qualified(self.table.schema_name, self.table.name)


class Row(Record):
    """A row of the sample: its address (ctid) and, for each column of the digest, the hash of its value's text."""

    address: str
    values: tuple[str, ...]


def _qualified(schema_name: str, name: str) -> str:
    return f"{quoted(schema_name)}.{quoted(name)}"


def rotated(items: Sequence[Item], rotation: int) -> tuple[Item, ...]:
    """Given items and a rotation, return them beginning at that one, counted round."""
    start = rotation % len(items) if items else 0
    return (*items[start:], *items[:start])


def can_be_damaged(table: Table) -> bool:
    """Given a table of the manifest, return whether a damage to it could be seen by its digest and there is something to damage."""
    # An extension's table is dumped in part; rows outside of its condition are none of the backup's.
    return table.mode == "full" and bool(table.columns) and not table.condition and table.rows != 0


def order_of_places(places: Iterable[Place], rotation: int) -> tuple[Place, ...]:
    """Given the tables, return them in the order to be tried: small ones in turn, those without obstacles first; then larger ones by size."""
    every = sorted(places, key=lambda place: place.table.qualified)
    limit = max(SMALL_BYTES, sum(place.size_bytes for place in every) // SMALL_SHARE)
    small = [place for place in every if place.size_bytes <= limit]
    easy = [place for place in small if not place.rules and not place.lacks_identity]
    hard = [place for place in small if place.rules or place.lacks_identity]
    large = sorted((place for place in every if place.size_bytes > limit), key=lambda place: place.size_bytes)
    return (*rotated(easy, rotation), *rotated(hard, rotation), *large)


def page_of(place: Place, rotation: int) -> int:
    """Given a table and a rotation, return the page to take rows from. It may be past the end of what holds rows: then take the first."""
    return rotation % (place.size_bytes // _PAGE_BYTES + 1)


def sample_sql(place: Place, page: int) -> str:
    """Given a table and a page, return the query of some of its rows from that page on, as (address, hashes of values).

    A value's text is taken within a row, where its type's output function is used, as in the dump; a cast may be a function of the user's own.
    """
    hashes = ", ".join(_hash_of(f"d.{quoted(column.name)}") for column in place.table.columns)
    return (
        f"SELECT d.ctid::text, ARRAY[{hashes}] FROM ONLY {place.sql_name} AS d"
        f" WHERE d.ctid >= '({page},0)'::tid LIMIT {SAMPLE_ROWS}"
    )


def _hash_of(value: str) -> str:
    return f"md5(ROW({value})::text)"


def removal_of_obstacles(place: Place) -> tuple[str, ...]:
    """Given a table, return the statements without which it would not take an UPDATE or DELETE (rules; published without a replica identity)."""
    rules = tuple(f"ALTER TABLE {place.sql_name} DISABLE RULE {quoted(rule)}" for rule in place.rules)
    identity = (f"ALTER TABLE ONLY {place.sql_name} REPLICA IDENTITY FULL",) if place.lacks_identity else ()
    return rules + identity


def removal_of_keys(place: Place) -> tuple[str, ...]:
    """Given a table, return the statements without which two equal rows could not be in it. A partition's keys are its parent's, so it is detached first."""
    detach = f"ALTER TABLE {_qualified(*place.parent)} DETACH PARTITION {place.sql_name}" if place.parent else ""
    keys = [f"ALTER TABLE ONLY {place.sql_name} DROP CONSTRAINT {quoted(key)} CASCADE" for key in place.keys]
    indexes = [f"DROP INDEX {_qualified(*index)} CASCADE" for index in place.indexes]
    return (*([detach] if detach and (keys or indexes) else []), *keys, *indexes)


class Change(Record):
    """A value to be changed: the row, the column, and the UPDATE, which returns the new value's hash."""

    row: Row
    column: str
    before: str
    sql: str


class Exchange(Record):
    """Two rows' values of one column to be exchanged, and the UPDATE, which returns the new values' hashes."""

    one: Row
    other: Row
    column: str
    hashes: tuple[str, str]
    sql: str


class Duplicate(Record):
    """A row to be replaced by another one's copy: the DELETE and the INSERT, which returns the hashes of the copy's values."""

    gone: Row
    copied: Row
    delete: str
    insert: str


def changes(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Change]:
    """Given a table and some rows, give ways to change one value, the likeliest first: a step by its type, another row's value, NULL. Not all will be allowed."""
    return islice(_changes(place, rows, rotation), MAXIMUM_ATTEMPTS)


def _changes(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Change]:
    columns = _writable(place)
    # All columns of the first row, then of the next: a column may be NULL in one row only.
    for row, (index, column) in product(rotated(rows, rotation), rotated(columns, rotation)):
        another = next((other for other in rows if other.values[index] != row.values[index]), None)
        steps = [_step(place.table.columns[index].type, quoted(column))]
        steps += [_value_at(place, column, another)] if another else []
        for step in (*steps, "NULL"):
            if step:
                sql = (
                    f"UPDATE ONLY {place.sql_name} AS d SET {quoted(column)} = {step} WHERE d.ctid = '{row.address}'::tid"
                    f" RETURNING {_hash_of(f'd.{quoted(column)}')}"
                )
                yield Change(row=row, column=column, before=row.values[index], sql=sql)


def exchanges(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Exchange]:
    """Given a table and some rows, give pairs of rows and a column in which they differ, while they differ elsewhere too."""
    return islice(_exchanges(place, rows, rotation), MAXIMUM_ATTEMPTS)


def _exchanges(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Exchange]:
    turned = rotated(rows, rotation)
    for (index, column), at in product(rotated(_writable(place), rotation), range(len(turned))):
        # One pair a row and column, each row with one that follows it: a row that is refused (a CHECK that it breaks already) then refuses few pairs.
        one = turned[at]
        other = next((row for row in rotated(turned, at) if _exchange_shows(one, row, index)), None)
        if other is None:
            continue
        values = _value_at(place, column, other), _value_at(place, column, one)
        sql = (
            f"UPDATE ONLY {place.sql_name} AS d SET {quoted(column)} = CASE WHEN d.ctid = '{one.address}'::tid THEN {values[0]} ELSE {values[1]} END"
            f" WHERE d.ctid = ANY (ARRAY['{one.address}', '{other.address}']::tid[]) RETURNING {_hash_of(f'd.{quoted(column)}')}"
        )
        hashes = (one.values[index], other.values[index])
        yield Exchange(one=one, other=other, column=column, hashes=hashes, sql=sql)


def _exchange_shows(one: Row, other: Row, index: int) -> bool:
    elsewhere = (a != b for at, (a, b) in enumerate(zip(one.values, other.values, strict=True)) if at != index)
    return one.values[index] != other.values[index] and any(elsewhere)


def duplicates(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Duplicate]:
    """Given a table and some rows, give pairs of different rows, of which one is to be replaced by a copy of the other."""
    return islice(_duplicates(place, rows, rotation), MAXIMUM_ATTEMPTS // 4)


def _duplicates(place: Place, rows: Sequence[Row], rotation: int) -> Iterator[Duplicate]:
    columns = ", ".join(quoted(column) for column in place.writable)
    hashes = ", ".join(_hash_of(f"d.{quoted(column.name)}") for column in place.table.columns)
    for at, gone in enumerate(turned := rotated(rows, rotation)):
        copied = next((row for row in rotated(turned, at) if row.values != gone.values), None)
        if copied is not None and columns:
            yield Duplicate(
                gone=gone,
                copied=copied,
                delete=f"DELETE FROM ONLY {place.sql_name} AS d WHERE d.ctid = '{gone.address}'::tid",
                insert=(
                    f"INSERT INTO {place.sql_name} AS d ({columns}) OVERRIDING SYSTEM VALUE"
                    f" SELECT {columns} FROM ONLY {place.sql_name} AS o WHERE o.ctid = '{copied.address}'::tid RETURNING ARRAY[{hashes}]"
                ),
            )


def _writable(place: Place) -> tuple[tuple[int, str], ...]:
    return tuple((at, one.name) for at, one in enumerate(place.table.columns) if one.name in place.writable)


def _value_at(place: Place, column: str, row: Row) -> str:
    return f"(SELECT o.{quoted(column)} FROM ONLY {place.sql_name} AS o WHERE o.ctid = '{row.address}'::tid)"


# The smallest step to another value, by the type's name as format_type prints it, without its length.
_STEPS: dict[str, str] = {
    **dict.fromkeys(("smallint", "integer", "bigint", "numeric", "real", "double precision", "date"), "{c} + 1"),
    **dict.fromkeys(
        ("timestamp without time zone", "timestamp with time zone", "interval"), "{c} + interval '1 microsecond'"
    ),
    **dict.fromkeys(
        ("text", "character varying", "character"),
        "left({c}, -1) || CASE WHEN right({c}, 1) = 'x' THEN 'y' ELSE 'x' END",
    ),
    "boolean": "NOT {c}",
    "bytea": "{c} || '\\x00'::bytea",
    "jsonb": "jsonb_build_array({c})",
    "json": "json_build_array({c})",
    "uuid": "translate({c}::text, '0123456789abcdef', '123456789abcdef0')::uuid",
}


def _step(type_name: str, column: str) -> str:
    # `timestamp(3) with time zone` and `character varying(10)` without what is in parentheses.
    before, bracket, rest = type_name.partition("(")
    plain = before + rest.partition(")")[2] if bracket else type_name
    if plain.endswith("[]"):
        return f"{column} || {column}"
    return _STEPS.get(plain, "").replace("{c}", column)


def choose_part(parts: Sequence[StoredPart], rotation: int) -> StoredPart | None:
    """Given a backup's stored parts, return the one whose turn it is; None when all of them are empty."""
    filled = [part for part in parts if part.plain_bytes and part.stored_bytes]
    return rotated(filled, rotation)[0] if filled else None


def fits_in_memory(part: StoredPart) -> bool:
    """Given a stored part, return whether it may be held as a whole, stored and plain."""
    return part.stored_bytes + part.plain_bytes <= PART_BYTES


def flipped(content: bytes, rotation: int) -> tuple[bytes, int]:
    """Given some bytes (not none) and a rotation, return them with one bit of one byte changed, and that byte's position."""
    # A stride that shares no factor with most lengths: neighbouring rotations fall far from each other.
    position = rotation * 2_654_435_761 % len(content)
    changed = bytearray(content)
    changed[position] ^= 1 << rotation % 8
    return bytes(changed), position
