"""Comparing what was counted after a restore with the manifest: table by table, and tables that a restore fills anew as one.

A table partitioned by hash over an enum gets its rows in other partitions when restored, since an enum's hash is its oid's. pg_dump knows this and loads them through the
partitioned table (getPartitioningInfo, pg_dump.c). Digests are sums over rows, so the sum over the partitions must be the same.
"""

from collections.abc import Collection, Iterable, Mapping

from core.manifest import Record, Table

Counted = tuple[int | None, str | None]


class Difference(Record):
    """What differs: the table, or the partitioned table and its partitions, with rows and digest as recorded and as found."""

    name: str
    expected_rows: int | None
    expected_digest: str | None
    found_rows: int | None
    found_digest: str | None


def differences(
    tables: Iterable[Table], found: Mapping[int, Counted], unread: Collection[int] = ()
) -> tuple[Difference, ...]:
    """Given the manifest's tables and what was counted in a restored database by their oids there recorded, return what differs, in the manifest's order.

    A table that is not in `found` differs, unless its mode is `off`. Of those in `unread`, which could not be looked at, and of what is compared together with one of
    them, nothing is known: they are left out, and to be told by the caller.
    """
    groups: dict[str, list[Table]] = {}
    for table in tables:
        name = ".".join(table.routed_through) + " and its partitions" if table.routed_through else table.qualified
        groups.setdefault(name, []).append(table)
    result = []
    for name, members in groups.items():
        if any(table.oid in unread for table in members):
            continue
        expected = _sum((table.rows, table.digest) for table in members)
        counted = _sum(found.get(table.oid, (None, None)) for table in members)
        if expected != counted:
            result.append(
                Difference(
                    name=name,
                    expected_rows=expected[0],
                    expected_digest=expected[1],
                    found_rows=counted[0],
                    found_digest=counted[1],
                )
            )
    return tuple(result)


def _sum(counted: Iterable[Counted]) -> Counted:
    """Rows and digests added up; None as soon as one is not known."""
    rows: int | None = 0
    digest: int | None = 0
    for more_rows, more_digest in counted:
        rows = None if rows is None or more_rows is None else rows + more_rows
        digest = None if digest is None or more_digest is None else digest + int(more_digest)
    return rows, None if digest is None else str(digest)
