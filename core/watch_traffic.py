"""Where did the requests go? A collapse of traffic is advice only: a holiday looks the same, and so does a front end that never gets as far as the api."""

import numpy as np

from core.evidence import Finding
from core.watch_counts import BUCKET_MINUTES, BUCKETS_AN_HOUR, Counts

# Of what the earlier days had in the same hour.
LEAST_SHARE = 0.5
# Fewer expected requests in the hour tell nothing.
LEAST_REQUESTS = 100.0


def traffic_findings(metric: str, counts: Counts, closed: int) -> tuple[Finding, ...]:
    """Given one metric's counts, return a warning when the last hour had less than half the requests of the same hour of the least busy earlier day."""
    hour = slice(max(0, closed - BUCKETS_AN_HOUR), closed)
    now, before = counts.requests[hour], counts.baseline_requests[:, hour]
    known = ~np.isnan(now) & ~np.isnan(before).any(axis=0) if counts.days else np.zeros(now.shape, dtype=bool)
    if known.sum() < BUCKETS_AN_HOUR // 2:
        return ()
    seen, least = float(now[known].sum()), float(before[:, known].sum(axis=1).min())
    if least < LEAST_REQUESTS or seen >= LEAST_SHARE * least:
        return ()
    minutes = int(known.sum()) * BUCKET_MINUTES
    text = f"traffic: {seen:.0f} requests ({metric}) in the last {minutes} min; the least busy of the earlier days had {least:.0f} in the same time"
    return (Finding(severity="warning", text=text),)
