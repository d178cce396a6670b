"""The metrics of watches (core.own_metrics): how they ended, and how those stand that go on."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # it needs numpy
    from core.watch_record import WatchEnd

LOOKED_BACK = timedelta(days=30)
# As core.watch_verdict.Verdict and core.watch_standing.State (tests/test_own_metrics.py holds them together).
WATCH_VERDICTS = ("healthy", "degraded", "insufficient", "blind", "superseded")
WATCH_STATES = ("degraded", "suspect", "blind", "stands still")
Sample = tuple[str, tuple[str, ...], float]


@dataclass(frozen=True)
class OpenWatch:
    """A watch that goes on: when it began, when it looked last (None: never), what is not well, and since when it is blind (None: it is not)."""

    began: datetime
    looked: datetime | None
    states: tuple[str, ...] = ()
    blind_since: datetime | None = None


def watch_samples(ended: "Sequence[WatchEnd]", now: datetime) -> Iterator[Sample]:
    """Given how watches ended (`PREFIX/watches/RELEASE/ended.json`), return their metrics: verdicts of the last 30 days, and the last one."""
    recent = Counter(one.verdict for one in ended if one.at > now - LOOKED_BACK)
    for verdict in WATCH_VERDICTS:
        yield "nightshift_recent_watches", (verdict,), recent[verdict]  # type: ignore[index]
    last = max(ended, key=lambda one: one.at, default=None)
    if last is not None:
        yield "nightshift_watch_last_timestamp_seconds", (), last.at.timestamp()
        yield from one_of("nightshift_watch_last_verdict", (), WATCH_VERDICTS, last.verdict)


def open_watch_samples(found: Sequence[OpenWatch]) -> Iterator[Sample]:
    """Given the watches that go on, return their metrics: how many, how many are in which state, and of the oldest of each moment since when."""
    yield "nightshift_watches_open", (), len(found)
    for state in WATCH_STATES:
        yield "nightshift_watches_open_troubled", (state,), sum(state in one.states for one in found)
    if found:
        yield "nightshift_watch_open_timestamp_seconds", (), min(one.began for one in found).timestamp()
        looked = min(one.looked or one.began for one in found)
        yield "nightshift_watch_open_looked_timestamp_seconds", (), looked.timestamp()
    if blind := [one.blind_since for one in found if one.blind_since is not None]:
        yield "nightshift_watch_open_blind_timestamp_seconds", (), min(blind).timestamp()


def one_of(name: str, labels: tuple[str, ...], values: Iterable[str], so: str) -> Iterator[Sample]:
    """A sample for each value, 1 for the one that is so."""
    for value in values:
        yield name, (*labels, value), float(value == so)


# Name → what it says, and its labels beside the environment.
METRICS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nightshift_recent_watches": ("Watches that ended in the last 30 days.", ("verdict",)),
    "nightshift_watch_last_timestamp_seconds": ("End of the last one (Unix time).", ()),
    "nightshift_watch_last_verdict": ("1 for its verdict, 0 for the others.", ("verdict",)),
    "nightshift_watches_open": ("Watches that began within the last 30 days and have no end: they go on.", ()),
    "nightshift_watches_open_troubled": (
        "Of these, those that are degraded, suspect, blind or stand still.",
        ("state",),
    ),
    "nightshift_watch_open_timestamp_seconds": ("When the oldest of these began (Unix time).", ()),
    "nightshift_watch_open_looked_timestamp_seconds": (
        "When that of these which saw nothing new for longest did so last (Unix time).",
        (),
    ),
    "nightshift_watch_open_blind_timestamp_seconds": (
        "Since when one of these does not see its requests, or a part of them (Unix time); absent when all see them.",
        (),
    ),
}
