"""Where did the requests go? A collapse of traffic is advice only: a holiday looks the same, and so does a front end that never gets as far as the api."""

import numpy as np

from core.evidence import Finding
from core.watch_counts import BUCKET_MINUTES, BUCKETS_AN_HOUR, Counts
from core.watch_words import at_bucket

# Of what the earlier days had in the same hour.
LEAST_SHARE = 0.5
# Fewer expected requests in the hour tell nothing.
LEAST_REQUESTS = 100.0


def traffic_findings(metric: str, counts: Counts, closed: int) -> tuple[Finding, ...]:
    """Given one metric's counts, return warnings: when the last hour had less than half the requests of the same hour of the least busy earlier day, and which hours had.

    What was so in the morning stays told until the day's end: the requests that did not come cannot tell of troubles.
    """
    found = []
    if (last := _collapsed(counts, max(0, closed - BUCKETS_AN_HOUR), closed)) is not None:
        seen, least, minutes = last
        found.append(
            f"traffic: {seen:.0f} requests ({metric}) in the last {minutes} min; the least busy of the earlier days had {least:.0f} in the same time"
        )
    begins = range(0, closed - BUCKETS_AN_HOUR + 1, BUCKETS_AN_HOUR)
    hours = [one for one in begins if _collapsed(counts, one, one + BUCKETS_AN_HOUR) is not None]
    if hours:
        least_part = f"less than half the requests ({metric}) of the least busy of the earlier days"
        found.append(
            f"traffic: {len(hours)} of {len(begins)} hours had {least_part}, the first from {at_bucket(hours[0])}"
        )
    return tuple(Finding(severity="warning", text=one) for one in found)


def _collapsed(counts: Counts, begin: int, end: int) -> tuple[float, float, int] | None:
    """The requests from a bucket to another, those of the least busy earlier day, and of how many minutes both are known; None: there are as many as there should be."""
    hour = slice(begin, end)
    now, before = counts.requests[hour], counts.baseline_requests[:, hour]
    known = ~np.isnan(now) & ~np.isnan(before).any(axis=0) if counts.days else np.zeros(now.shape, dtype=bool)
    if known.sum() < BUCKETS_AN_HOUR // 2:
        return None
    seen, least = float(now[known].sum()), float(before[:, known].sum(axis=1).min())
    if least < LEAST_REQUESTS or seen >= LEAST_SHARE * least:
        return None
    return seen, least, int(known.sum()) * BUCKET_MINUTES
