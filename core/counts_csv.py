"""A recorded day as a table: what `nightshift judge` reads.

Columns: bucket start (ISO 8601 with a time zone), metric, requests and bad ones of the new version, then requests and bad ones of each baseline day. One row
for each bucket and metric, in any order; a bucket without a row, or with empty cells, is one of which nobody knows anything: empty is not 0.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np

from core.watch_counts import BUCKET_MINUTES, BUCKETS, Counts

_BUCKET = timedelta(minutes=BUCKET_MINUTES)
_FIRST_COLUMNS = 4


@dataclass(frozen=True)
class RecordedDay:
    """The counts of each metric from the first bucket on."""

    begin: datetime
    metrics: dict[str, Counts]


@dataclass(frozen=True)
class _Row:
    line: int
    start: datetime
    metric: str
    numbers: tuple[float | None, ...]


def read_recorded_day(lines: Iterable[str]) -> RecordedDay:
    """Given the table's lines, the first of them its header, return the day. Raise ValueError naming the line and what is wrong with it."""
    reader = csv.reader(lines)
    header = next(reader, [])
    days, odd = divmod(len(header) - _FIRST_COLUMNS, 2)
    if days < 1 or odd:
        raise ValueError(
            f"line 1: {len(header)} columns; wanted: bucket start, metric, new requests, new bad, then requests and bad of each baseline day"
        )
    rows = [_row(number, cells, len(header)) for number, cells in enumerate(reader, 2) if any(cells)]
    if not rows:
        raise ValueError("line 2: there is no bucket")
    begin = min(one.start for one in rows)
    names = sorted({one.metric for one in rows})
    return RecordedDay(
        begin, {name: _counts([one for one in rows if one.metric == name], begin, days) for name in names}
    )


def _row(line: int, cells: list[str], columns: int) -> _Row:
    if len(cells) != columns:
        raise ValueError(f"line {line}: {len(cells)} cells; the header has {columns}")
    start, metric, *numbers = (cell.strip() for cell in cells)
    try:
        found = datetime.fromisoformat(start)
    except ValueError:
        raise ValueError(f"line {line}: {start!r} is no time; wanted: 2026-11-26T10:05:00Z") from None
    if found.tzinfo is None:
        raise ValueError(f"line {line}: {start} has no time zone; wanted: 2026-11-26T10:05:00Z")
    if not metric or not metric.isprintable():
        raise ValueError(f"line {line}: the metric has no name that can be shown")
    counts = tuple(_number(line, cell) for cell in numbers)
    for requests, bad in _pairs(counts):
        if (requests is None) != (bad is None):
            raise ValueError(f"line {line}: of requests and bad ones either both are known or neither")
        if requests is not None and bad is not None and bad > requests:
            raise ValueError(f"line {line}: {bad:g} bad of {requests:g} requests")
    return _Row(line, found.astimezone(UTC), metric, counts)


def _number(line: int, cell: str) -> float | None:
    if not cell:
        return None
    try:
        number = float(cell)
    except ValueError:
        raise ValueError(f"line {line}: {cell!r} is no number") from None
    if not 0 <= number < float("inf"):
        raise ValueError(f"line {line}: {cell} is no count")
    return number


def _pairs(counts: tuple[float | None, ...]) -> Iterator[tuple[float | None, float | None]]:
    return zip(counts[::2], counts[1::2], strict=True)


def _counts(rows: list[_Row], begin: datetime, days: int) -> Counts:
    sides = np.full((1 + days, 2, BUCKETS), np.nan)
    seen: dict[int, int] = {}
    for row in rows:
        bucket, rest = divmod(row.start - begin, _BUCKET)
        if rest:
            raise ValueError(
                f"line {row.line}: {row.start.isoformat()} is no whole number of {BUCKET_MINUTES} minutes after the first bucket"
            )
        if bucket >= BUCKETS:
            raise ValueError(f"line {row.line}: {row.start.isoformat()} is more than a day after the first bucket")
        if bucket in seen:
            raise ValueError(f"line {row.line}: the bucket stands in line {seen[bucket]} already")
        seen[bucket] = row.line
        for side, (requests, bad) in enumerate(_pairs(row.numbers)):
            if requests is not None and bad is not None:
                sides[side, :, bucket] = requests, bad
    return Counts(sides[0, 0], sides[0, 1], sides[1:, 0], sides[1:, 1])
