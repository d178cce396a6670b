"""By what the tables of a backup are compared after a restore: `full` by a digest, `counts` by their rows' number alone, `off` not at all.

A backup some of whose tables were not compared in full can be proven; it is never shown as proven without saying so. The manifest tells it, so it is known of older
proofs too.
"""

from collections.abc import Iterable

from core.manifest import Record, Size, Table
from core.units import counted

# So many names are kept of each kind.
NAMED_AT_MOST = 20
_SHOWN = 5


class ComparedTables(Record):
    """How many tables are compared by what, and the first names of those that are not compared in full."""

    full: Size = 0
    counts: Size = 0
    off: Size = 0
    counts_names: tuple[str, ...] = ()
    off_names: tuple[str, ...] = ()

    @property
    def all(self) -> int:
        """How many tables there are."""
        return self.full + self.counts + self.off

    @property
    def reserved(self) -> int:
        """How many tables' content nobody compares."""
        return self.counts + self.off

    @property
    def short(self) -> str:
        """The reservation in a few words, to stand beside a state; empty when every table is compared in full."""
        return f"{counted(self.reserved, 'table')} not compared" if self.reserved else ""

    @property
    def reservation(self) -> str:
        """The reservation with the tables' names; empty when every table is compared in full."""
        told = (
            (self.off, self.off_names, "neither rows nor content (digests = off)"),
            (self.counts, self.counts_names, "only the number of rows (digests = counts)"),
        )
        return "; ".join(f"{what}: {_listed(names, number)}" for number, names, what in told if number)


def compared_tables(tables: Iterable[Table]) -> ComparedTables:
    """Given tables of a manifest, return by what they are compared."""
    names: dict[str, list[str]] = {"full": [], "counts": [], "off": []}
    for table in tables:
        names[table.mode].append(table.qualified)
    return ComparedTables(
        full=len(names["full"]),
        counts=len(names["counts"]),
        off=len(names["off"]),
        counts_names=tuple(sorted(names["counts"])[:NAMED_AT_MOST]),
        off_names=tuple(sorted(names["off"])[:NAMED_AT_MOST]),
    )


def _listed(names: Iterable[str], number: int) -> str:
    shown = tuple(names)[:_SHOWN]
    return ", ".join(shown) + (f" and {number - len(shown)} more" if number > len(shown) else "")
