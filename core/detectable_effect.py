"""The smallest effect that could have been seen: what "healthy" is worth.

Of a watch that found nothing this is the factor by which the new version would have had to be worse, over all that was observed, to be found in four of five
cases. It is taken from the test itself, not from a formula: with the counts that the baseline leads one to expect, times the factor, less what bad luck takes
of them (the normal approximation's 20 % quantile, with the dispersion). The true power for one test case stands in benchmarks/judgement.py beside it.

Of days before without one bad request there is no multiple. What would have been found there is a share of the new version's own requests: some ten bad ones a day,
which in simulated days (Poisson, three metrics) were found in 81 to 84 of a hundred, without one false alarm in a thousand days of up to ten bad requests.
"""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from core.dispersion import dispersion
from core.sequential_test import MIXTURE, TOLERATED_FACTOR, Mixture, e_process_of
from core.watch_counts import Array, Counts

# The 80 % quantile of the normal distribution.
_QUANTILE = 0.8416
_LARGEST = 1000.0
_LEAST_SHARE = 1e-9
_STEPS = 30


def smallest_detectable_factor(
    counts: Counts, at: float, *, tolerated: float = TOLERATED_FACTOR, mixture: Mixture = MIXTURE
) -> float:
    """Given one day's counts and the threshold, return the factor; infinite where even a thousandfold would not have been seen.

    Raise ValueError with fewer than two baseline days.
    """
    counts, divisor = counts.known, dispersion(counts)
    requests = np.where(counts.compared, counts.requests, 0)
    share = counts.baseline_bad.sum(axis=-2) / np.maximum(counts.baseline_requests.sum(axis=-2), 1)
    expected = requests * share
    total = float(expected.sum())

    def is_seen(factor: float) -> bool:
        bad = np.minimum(expected * factor * _luck(factor * total, divisor), requests)
        process = e_process_of(replace(counts, bad=bad), divisor, tolerated=tolerated, mixture=mixture)
        return bool(process.max() >= at)

    return _smallest(is_seen, 1.0, _LARGEST)


def smallest_detectable_share(counts: Counts, at: float) -> float:
    """Given one day's counts and the threshold, return the share of bad requests, spread evenly, that would have been found; infinite where no share would.

    Raise ValueError with fewer than two baseline days.
    """
    counts, divisor = counts.known, dispersion(counts)
    requests = np.where(counts.compared, counts.requests, 0)
    total = float(requests.sum())

    def is_seen(share: float) -> bool:
        bad = requests * min(1.0, share * _luck(share * total, divisor))
        return bool(e_process_of(replace(counts, bad=bad), divisor).max() >= at)

    return _smallest(is_seen, _LEAST_SHARE, 1.0)


def _luck(mean: float, divisor: Array) -> float:
    """What bad luck leaves of so many expected bad requests, in one case of five."""
    return max(0.0, 1 - _QUANTILE * math.sqrt(float(divisor) / mean)) if mean > 0 else 0.0


def _smallest(is_seen: Callable[[float], bool], least: float, most: float) -> float:
    """The smallest that is seen, by halving the logarithm; infinite where even the largest is not."""
    if not is_seen(most):
        return math.inf
    low, high = math.log(least), math.log(most)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if is_seen(math.exp(middle)) else (middle, high)
    return math.exp(high)


def rounded_up(factor: float) -> float | None:
    """A factor as it is told: rounded up to two digits, so that no smaller one is promised; None where none would have been found."""
    if not math.isfinite(factor) or factor <= 0:
        return None
    digit = 10.0 ** (math.floor(math.log10(factor)) - 1)
    # Six digits first: 2.4 is 24.000000000000004 tenths.
    return float(f"{math.ceil(round(factor / digit, 6)) * digit:.6g}")
