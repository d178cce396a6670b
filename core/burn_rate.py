"""The absolute guard beside the comparison: does the new version spend its error budget so fast that nobody may wait, whatever the days before were?

The budget is 1 - objective (0.999: one bad request of a thousand). Burn rate b: bad requests come b times as often as the budget allows. The windows and
rates are those of the Site Reliability Workbook (Beyer et al. 2018, chapter 5, "Multiwindow, Multi-Burn-Rate Alerts", table 5-8): 14.4 over 1 h and over the
last 5 min, 6 over 6 h and over the last 30 min. The short window says that it still goes on.

Thresholds alone have no known rate of false alarms: of forty requests an hour one bad one is a burn rate of 25. So the guard wants evidence as well: an
e-process against "the burn rate is at most 6", counts taken as Poisson, whose E must reach the threshold like that of any other signal that may send a
release back. Poisson has more weight in its tail than the binomial with the same mean, which makes it the more careful of the two.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.sequential_test import MIXTURE, Mixture, begun_hourly
from core.watch_counts import BUCKETS_AN_HOUR, Array


@dataclass(frozen=True)
class BurnWindow:
    """A burn rate that must be exceeded over a long window and over a short one, in buckets."""

    rate: float
    long: int
    short: int


WINDOWS = (BurnWindow(14.4, BUCKETS_AN_HOUR, 1), BurnWindow(6, 6 * BUCKETS_AN_HOUR, BUCKETS_AN_HOUR // 2))


def burns(requests: Array, bad: Array, objective: float) -> NDArray[np.bool_]:
    """Given requests, bad ones and the objective's share of good ones, return after which buckets one of the windows burns.

    A window that reaches back before the release counts from the release on. Raise ValueError for an objective that leaves no budget.
    """
    budget = budget_of(objective)
    found = np.zeros(requests.shape, dtype=bool)
    for window in WINDOWS:
        limit = window.rate * budget
        found |= (_share(bad, requests, window.long) > limit) & (_share(bad, requests, window.short) > limit)
    return found


def burn_process(requests: Array, bad: Array, objective: float, divisor: Array, *, mixture: Mixture = MIXTURE) -> Array:
    """The e-process against a burn rate of at most 6, after each bucket. `divisor`: the dispersion, by which counts are divided."""
    allowed = min(window.rate for window in WINDOWS) * budget_of(objective) * requests / divisor[..., None]
    found = np.zeros(np.broadcast_shapes(requests.shape, allowed.shape))
    for factor, weight in zip(mixture.factors, mixture.weights, strict=True):
        evidence = np.cumsum(bad / divisor[..., None] * np.log(factor) - (factor - 1) * allowed, axis=-1)
        found += weight * begun_hourly(evidence)
    return found


def first_burn_alarm(requests: Array, bad: Array, objective: float, divisor: Array, at: float) -> Array:
    """The bucket after which the guard would act first: it burns, and the evidence reached the threshold; infinite where it never does."""
    reached = burns(requests, bad, objective) & (burn_process(requests, bad, objective, divisor) >= at)
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)


def budget_of(objective: float) -> float:
    """The share of requests that may be bad. Raise ValueError for an objective that leaves none."""
    if not 0 < objective < 1:
        raise ValueError(
            f"an objective of {objective} leaves no budget: it lies between 0 and 1, 0.999 for one bad request of a thousand"
        )
    return 1 - objective


def _share(bad: Array, requests: Array, buckets: int) -> Array:
    return _last(bad, buckets) / np.maximum(_last(requests, buckets), 1)


def _last(counts: Array, buckets: int) -> Array:
    """Sums over the last so many buckets, each included."""
    total = np.cumsum(counts, axis=-1)
    before = np.concatenate([np.zeros((*total.shape[:-1], buckets)), total[..., :-buckets]], axis=-1)
    return np.asarray(total - before, dtype=np.float64)
