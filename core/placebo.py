"""Calibration by days on which nothing was released: how often does the test call such a day worse?

Each earlier release-free day is put in the new version's place, against days before it. Were the day of the release like them, its rank among them would be
any with the same probability (exchangeable; the permutation test's argument, Lehmann & Romano, Testing Statistical Hypotheses, §15.2; Abadie, Diamond &
Hainmueller 2010 use it as "placebo tests"). So the share of days, itself among them, with at least its value is at most α with probability α, whatever the
noise is. With fewer than 19 such days no share gets down to 5 %, and this says nothing.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from core.sequential_test import ALPHA, e_process
from core.watch_counts import BUCKETS, Array, Counts
from core.watch_days import LAG_DAYS

# So much of a day, and of the same day of each earlier week, must be known.
_LEAST_KNOWN = 0.9


def least_days(alpha: float = ALPHA) -> int:
    """How many release-free days are needed before the rank can say anything: 19 for 5 %."""
    return round(1 / alpha) - 1


def placebo_share(observed: float, placebos: Sequence[float]) -> float:
    """Given the day's largest E and those of release-free days, return the share of days, itself among them, with at least as much."""
    return (1 + sum(one >= observed for one in placebos)) / (1 + len(placebos))


def is_confirmed(observed: float, placebos: Sequence[float], alpha: float = ALPHA) -> bool | None:
    """Whether the day stands out among release-free ones; None: there are too few of them."""
    if len(placebos) < least_days(alpha):
        return None
    return placebo_share(observed, placebos) <= alpha + 1e-9


def placebo_offsets(alpha: float = ALPHA) -> range:
    """How many days before a release a day may lie that is put in its place: as few as can say anything."""
    return range(1, least_days(alpha) + 1)


def days_needed(alpha: float = ALPHA) -> tuple[int, ...]:
    """How many days before the release each day lies that is needed: those, and the same day of the weeks before each, the farthest first."""
    offsets = placebo_offsets(alpha)
    return tuple(sorted({*offsets, *(one + lag for one in offsets for lag in LAG_DAYS)}, reverse=True))


def placebos(days: Mapping[int, tuple[Array, Array]], alpha: float = ALPHA) -> tuple[float, ...]:
    """Given requests and bad ones of the days before a release, by how many days before they lie, return the largest E of each that can be put in its place.

    A day of which too little is known (an incident, another release, before Prometheus' memory) is left out, and so is one whose earlier weeks are.
    """
    found = []
    for offset in placebo_offsets(alpha):
        chosen = [days.get(offset + lag) for lag in (0, *LAG_DAYS)]
        known = [one for one in chosen if one is not None and np.isfinite(one[0]).sum() >= _LEAST_KNOWN * BUCKETS]
        if len(known) < len(chosen):
            continue
        (requests, bad), *earlier = known
        counts = Counts(requests, bad, np.array([one[0] for one in earlier]), np.array([one[1] for one in earlier]))
        found.append(float(e_process(counts).max()))
    return tuple(found)
