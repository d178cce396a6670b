"""Counts written as the table that `nightshift judge` reads."""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

from core.watch_counts import BUCKET_MINUTES, BUCKETS, Counts

BEGIN = datetime(2026, 11, 26, tzinfo=UTC)


def write_day(folder: Path, **metrics: Counts) -> Path:
    """Write the table of a day's metrics, which have the same number of baseline days."""
    file = folder / "day.csv"
    days = max(one.days for one in metrics.values())
    with file.open("w", newline="") as out:
        table = csv.writer(out)
        baseline = [f"day {day} {what}" for day in range(1, days + 1) for what in ("n", "bad")]
        table.writerow(["bucket start", "metric", "new n", "new bad", *baseline])
        for bucket in range(BUCKETS):
            start = BEGIN + timedelta(minutes=BUCKET_MINUTES * bucket)
            for name, counts in metrics.items():
                old = [
                    float(side[day, bucket])
                    for day in range(days)
                    for side in (counts.baseline_requests, counts.baseline_bad)
                ]
                table.writerow([start.isoformat(), name, counts.requests[bucket], counts.bad[bucket], *old])
    return file
