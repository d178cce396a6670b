"""What a restore of a backup would lose: rows that the server's counters have seen written since."""

from datetime import UTC, datetime

from core.manifest import Manifest, Statistics, Table
from core.writes_since import TableCounters, WritesSince, writes_since

NEVER, EARLY, LATE = (
    Statistics(stats_reset=None),
    Statistics(stats_reset=datetime(2026, 1, 1, tzinfo=UTC)),
    Statistics(stats_reset=datetime(2026, 2, 1, tzinfo=UTC)),
)


def counters(oid: int, name: str, inserted: int, updated: int = 0, deleted: int = 0) -> TableCounters:
    return TableCounters(oid=oid, schema_name="public", name=name, inserted=inserted, updated=updated, deleted=deleted)


def backup(statistics: Statistics, **inserted: int) -> Manifest:
    """A backup with tables of oid 1, 2, …, each with so many rows inserted, and 5 updated."""
    tables = tuple(
        Table.model_construct(oid=oid, counters={"inserted": rows, "updated": 5, "deleted": 0})
        for oid, rows in enumerate(inserted.values(), start=1)
    )
    return Manifest.model_construct(tables=tables, statistics=statistics)


def test_each_table_counts_what_came_since_and_a_new_one_all() -> None:
    live = [counters(1, "a", 110, 6, 2), counters(2, "b", 50, 5), counters(9, "new", 4)]
    found = writes_since(backup(EARLY, a=100, b=50), live, EARLY)
    assert found == WritesSince(tables=(("public.a", 13), ("public.new", 4)))
    assert str(found) == "at least 17 rows in 2 tables were written since (public.a 13, public.new 4)"


def test_nothing_written_is_said_as_not_seen() -> None:
    assert str(writes_since(backup(NEVER, a=1), [counters(1, "a", 1, 5)], NEVER)) == "no row was seen written since"


def test_counters_that_began_anew_count_from_zero_and_say_what_is_missing() -> None:
    found = writes_since(backup(EARLY, a=100), [counters(1, "a", 120, 7)], LATE)
    assert (found.rows, found.began_anew) == (127, True)
    assert "began anew meanwhile, what was written before that is not counted" in str(found)


def test_a_table_that_began_anew_by_itself_leaves_the_others_as_they_are() -> None:
    found = writes_since(backup(EARLY, a=100, b=50), [counters(1, "a", 3), counters(2, "b", 51, 5)], EARLY)
    assert dict(found.tables) == {"public.a": 3, "public.b": 1}
    assert found.began_anew


def test_only_the_tables_with_most_are_named() -> None:
    found = writes_since(backup(NEVER), [counters(n, f"t{n}", n) for n in range(1, 8)], NEVER)
    assert str(found).startswith("at least 28 rows in 7 tables were written since (public.t7 7, public.t6 6, ")
    assert str(found).endswith("and 2 more)")
