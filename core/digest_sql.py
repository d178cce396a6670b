"""The SQL of a table's digest: what is hashed, and how, so that a dump and its restore give the same figure on every major.

For each row the columns' hashes are combined (`hash_record_extended`), mixed once more (`hashint8extended`: without it values exchanged between two
rows cancel out) and added up; the sum does not depend on the order of rows, and a duplicate counts twice, unlike with xor.

Native hashes are used only for types whose hash depends on the value alone and tells all that a dump keeps. The others enter as text: enum and reg* hash oids, which
a restore changes; numeric hashes 1.0 and 1.00 alike; float, interval, citext, arrays, ranges, composites and domains have one of these troubles or may.
Generated columns: stored ones are hashed, since a restore computes them again and must find the same; virtual ones (18) hold no data, and to read them may fail.
"""

# ruff: noqa: S608 - building SQL is what this module is for; names are quoted, all else is ours or the extension's

from collections.abc import Sequence

from core.manifest import Column

# What the text of a value depends on. xmloption and quote_all_identifiers are here because xml's and reg*'s output look at them.
PINNED_SETTINGS: dict[str, str] = {
    "search_path": "pg_catalog",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "row_security": "off",
    "xmloption": "content",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "synchronize_seqscans": "off",
}

# Oids of pg_catalog types, fixed for ever (src/include/catalog/pg_type.dat): bool, bytea, int8, int2, int4, date, timestamp, timestamptz, uuid, jsonb.
NATIVE_TYPE_OIDS = frozenset({16, 17, 20, 21, 23, 1082, 1114, 1184, 2950, 3802})
# text, varchar: only with a deterministic collation; a nondeterministic one hashes values alike that differ.
COLLATED_TYPE_OIDS = frozenset({25, 1043})

_SEED, _MIX = 0, 42
LARGE_OBJECT_CHUNK_BYTES = 1024 * 1024
_INV_READ = 0x40000


def hashed_natively(type_oid: int, *, deterministic: bool) -> bool:
    """Given a column's type and whether its collation is deterministic (true when it has none), return whether the type's own hash is used."""
    return type_oid in NATIVE_TYPE_OIDS or (type_oid in COLLATED_TYPE_OIDS and deterministic)


def quoted(identifier: str) -> str:
    """An identifier in double quotes, as SQL wants it."""
    return '"' + identifier.replace('"', '""') + '"'


def table_digest_sql(
    schema_name: str,
    name: str,
    columns: Sequence[Column],
    *,
    condition: str = "",
    plain_output: frozenset[str] = frozenset(),
) -> str:
    """Given a table, return the query of its row count and digest (bigint, text), to be run with PINNED_SETTINGS.

    `condition` is an extension table's extcondition ("WHERE …"). `plain_output` names columns of a type whose cast to text is not its output function: a user's
    function, which pg_dump would not call either, or the bytes as they are (xml). Within an array the output function is used.
    """
    alias = _free_alias(columns)
    values = ", ".join(_value(alias, column, column.name in plain_output) for column in columns)
    row = f"hashint8extended(hash_record_extended(ROW({values}), {_SEED}), {_MIX})"
    return f"SELECT count(*), coalesce(sum({row}), 0)::text FROM {_source(schema_name, name, condition)} AS {alias}"


def table_count_sql(schema_name: str, name: str, *, condition: str = "") -> str:
    """Given a table, return the query of its row count."""
    return f"SELECT count(*) FROM {_source(schema_name, name, condition)} AS r"


def _source(schema_name: str, name: str, condition: str) -> str:
    table = f"{quoted(schema_name)}.{quoted(name)}"
    # With a condition pg_dump copies from a query, without ONLY; the condition may name the table, so it gets no alias.
    return f"(SELECT * FROM {table} {condition})" if condition else f"ONLY {table}"


def _value(alias: str, column: Column, plain_output: bool) -> str:
    value = f"{alias}.{quoted(column.name)}"
    if column.hashed_as == "native":
        # jsonb's hash is the same for 2 and [2], and for [] and {} (JsonbHashScalarValue and jsonb_hash_extended, src/backend/utils/adt/jsonb_op.c).
        return f"{value}, jsonb_typeof({value})" if column.type == "jsonb" else value
    return f'ARRAY[{value}]::text COLLATE "C"' if plain_output else f'{value}::text COLLATE "C"'


def _free_alias(columns: Sequence[Column]) -> str:
    taken = {column.name for column in columns}
    alias = "r"
    while alias in taken:
        alias += "_"
    return alias


def large_objects_sql(*, digest: bool) -> str:
    """The query of all large objects' count, bytes and, if asked for, digest (bigint, bigint, text), to be run with PINNED_SETTINGS in a transaction.

    Read through lo_get, which asks for the privileges that pg_dump needs, in chunks of 1 MiB, so that the server holds one chunk at a time; by content, since a
    restore may cut pages of pg_largeobject otherwise. Opening, measuring and closing are one subquery each, one in the other and without a join: to a join
    the planner may add a cache by descriptor, and descriptors are used again.
    """
    opened = f"SELECT m.oid, lo_open(m.oid, {_INV_READ}) AS descriptor FROM pg_largeobject_metadata AS m OFFSET 0"
    measured = f"SELECT o.oid, o.descriptor, lo_lseek64(o.descriptor, 0, 2) AS bytes FROM ({opened}) AS o OFFSET 0"
    closed = f"SELECT m.oid, m.bytes, lo_close(m.descriptor) AS result FROM ({measured}) AS m OFFSET 0"
    sizes = f"SELECT c.oid, c.bytes + c.result AS bytes FROM ({closed}) AS c OFFSET 0"
    if not digest:
        return f"SELECT count(*), coalesce(sum(s.bytes), 0)::bigint, NULL::text FROM ({sizes}) AS s"
    step = LARGE_OBJECT_CHUNK_BYTES
    pieces = (
        f"SELECT s.oid, chunk.start, lo_get(s.oid, chunk.start, {step}) AS data FROM ({sizes}) AS s"
        f" CROSS JOIN LATERAL generate_series(0::bigint, greatest(s.bytes - 1, 0), {step}::bigint) AS chunk(start) OFFSET 0"
    )
    row = f"hashint8extended(hash_record_extended(ROW(p.oid, p.start, p.data), {_SEED}), {_MIX})"
    return (
        "SELECT count(*) FILTER (WHERE p.start = 0), coalesce(sum(octet_length(p.data)), 0)::bigint,"
        f" coalesce(sum({row}), 0)::text FROM ({pieces}) AS p"
    )
