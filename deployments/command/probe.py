"""A probe of `nightshift check`, and how long one may take."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from core.checks import Check
from core.errors import NightshiftError

# After libpq's own connect time-out of 10 s, so that its message is the one that is shown.
SHORT_SECONDS = 11.0
# Reading the rights on some thousand tables, or listing 100,000 objects, over a slow line.
LONG_SECONDS = 60.0


@dataclass(frozen=True)
class Probe:
    """One thing to look at: what it is called if it cannot even be tried, how, and for how many seconds at most."""

    name: str
    look: Callable[[], Iterable[Check]]
    seconds: float = SHORT_SECONDS


def row(name: str, look: Callable[[], Check]) -> Check:
    """One row, whatever becomes of it: an error fails it and leaves the others."""
    try:
        return look()
    except NightshiftError as error:
        return Check(name=name, state="failed", found=f"{error.on}: {error.found}", next_step=error.next_step)
