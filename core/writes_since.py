"""How much was written to a database since a backup of it: what a restore of that backup would lose, at least. From the server's own counters, then and now.

pg_stat_all_tables counts rows inserted, updated and deleted, those of transactions that were rolled back among them, and a session tells its counts up to a minute
after its transaction (PostgreSQL manual, 27.2). A server that crashed, or was promoted, begins anew. So it is an estimate, and what it cannot see is not in it.
"""

from collections.abc import Iterable

from core.manifest import Manifest, Record, Statistics

_NAMED = 5


class TableCounters(Record):
    """A live table's counters."""

    oid: int
    schema_name: str
    name: str
    inserted: int
    updated: int
    deleted: int

    @property
    def written(self) -> int:
        """All of them together."""
        return self.inserted + self.updated + self.deleted


class WritesSince(Record):
    """Rows by table, the most first. `began_anew`: the counters were reset since the backup, so that what was written before the reset is missing."""

    tables: tuple[tuple[str, int], ...]
    began_anew: bool = False

    @property
    def rows(self) -> int:
        """All rows."""
        return sum(rows for _, rows in self.tables)

    def __str__(self) -> str:
        count = len(self.tables)
        if not count:
            told = "no row was seen written since"
        else:
            named = ", ".join(f"{name} {rows}" for name, rows in self.tables[:_NAMED])
            more = f", and {count - _NAMED} more" if count > _NAMED else ""
            told = f"at least {self.rows} rows in {count} {'table' if count == 1 else 'tables'} were written since ({named}{more})"
        return (
            f"{told}; the server's counters began anew meanwhile, what was written before that is not counted"
            if self.began_anew
            else told
        )


def writes_since(manifest: Manifest, live: Iterable[TableCounters], statistics: Statistics) -> WritesSince:
    """Given a backup's manifest, the live tables' counters and when those were reset, return what was written since.

    A table that is new counts from zero; one whose counters are below those of before was reset by itself, and counts from zero, too. Tables that are gone are not seen.
    """
    before = {table.oid: table.counters for table in manifest.tables}
    all_anew = any_anew = statistics.stats_reset != manifest.statistics.stats_reset
    found = []
    for table in live:
        then = before.get(table.oid, {})
        now = {"inserted": table.inserted, "updated": table.updated, "deleted": table.deleted}
        anew = all_anew or any(now[name] < then.get(name, 0) for name in now)
        any_anew = any_anew or anew
        rows = table.written if anew else table.written - sum(then.values())
        if rows:
            found.append((f"{table.schema_name}.{table.name}", rows))
    return WritesSince(tables=tuple(sorted(found, key=lambda one: (-one[1], one[0]))), began_anew=any_anew)
