"""One day's counts of one metric after a release, beside those of the days that it is compared with.

A day is 288 buckets of 5 minutes, counted from the release. A count is of requests, and of the bad ones among them: failed, or slower than a histogram's
bound. A bucket of which nobody knows anything (Prometheus away, not closed yet; of an earlier day: in an incident or another release) holds NaN, which is not 0: neither
is evidence either way, but of the first nothing was seen.

All functions on counts work on arrays whose last axis is the buckets; axes before it are days of a simulation, or none.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

BUCKETS = 288
BUCKET_MINUTES = 5
BUCKETS_AN_HOUR = 60 // BUCKET_MINUTES
HOURS = BUCKETS // BUCKETS_AN_HOUR


@dataclass(frozen=True)
class Counts:
    """Requests and bad ones: of the new version (…, 288), and of each baseline day (…, days, 288)."""

    requests: Array
    bad: Array
    baseline_requests: Array
    baseline_bad: Array

    @property
    def days(self) -> int:
        """How many baseline days there are."""
        return int(self.baseline_requests.shape[-2])

    @property
    def usable_days(self) -> int:
        """Of one day's counts: how many baseline days are known for at least half of what is known of the new version. A day of which nothing is known is none."""
        now = ~np.isnan(self.requests)
        known = (~np.isnan(self.baseline_requests) & now).sum(axis=-1)
        return int(((known > 0) & (2 * known >= now.sum())).sum())

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Buckets of which it is known what happened, now and on an earlier day, even if nothing did."""
        return np.asarray(~np.isnan(self.requests) & ~np.isnan(self.baseline_requests).all(axis=-2))

    @property
    def compared(self) -> NDArray[np.bool_]:
        """Buckets in which both sides had requests: of these alone anything can be said."""
        return np.asarray((self.requests > 0) & (np.nansum(self.baseline_requests, axis=-2) > 0))

    @property
    def known(self) -> "Counts":
        """The same with 0 for what is not known: for sums."""
        return Counts(*map(np.nan_to_num, (self.requests, self.bad, self.baseline_requests, self.baseline_bad)))

    def day_as_new(self, index: int) -> "Counts":
        """A baseline day in the new version's place, beside the other days: what the test says of it is a false alarm, or an incident that nobody cut out."""
        others = [one for one in range(self.days) if one != index]
        return Counts(
            self.baseline_requests[..., index, :],
            self.baseline_bad[..., index, :],
            self.baseline_requests[..., others, :],
            self.baseline_bad[..., others, :],
        )


def hourly(counts: Array) -> Array:
    """Given counts by bucket, return them by hour."""
    return np.asarray(counts.reshape(*counts.shape[:-1], HOURS, BUCKETS_AN_HOUR).sum(axis=-1))
