"""How much more than chance alone equal days differ: the dispersion φ̂.

Pearson's χ² over its degrees of freedom (McCullagh & Nelder, Generalized Linear Models, 2nd ed., §4.5 and §6.2.3), of hourly counts, each release-free day
against the sum of all: of the T bad requests of an hour, those of a day with share s of the hour's requests are T·s, give or take √(T·s·(1-s)), were the days
alike. 1: they are; the counts are as good as independent. Above: days or bursts differ by themselves, and each count is worth so many times less. Counts are
divided by it, which makes of them what a quasi-Poisson model makes (§9.2.2). Hours, since bursts last longer than a bucket.
"""

import numpy as np

from core.watch_counts import Array, Counts, hourly

# Fewer release-free days say nothing of how days differ.
LEAST_DAYS = 2


def dispersion(counts: Counts) -> Array:
    """Given counts, return φ̂ of the baseline days: at least 1. Raise ValueError with fewer than two days.

    Where no hour had a bad request, 1: there is nothing that could differ.
    """
    if counts.days < LEAST_DAYS:
        raise ValueError(f"{counts.days} baseline days; at least {LEAST_DAYS} are needed to tell how days differ")
    known = counts.known
    requests, bad = hourly(known.baseline_requests), hourly(known.baseline_bad)
    share = requests / np.maximum(requests.sum(axis=-2, keepdims=True), 1)
    expected = bad.sum(axis=-2, keepdims=True) * share
    variance = expected * (1 - share)
    # A day without requests in an hour, or alone in it, says nothing of that hour.
    tells = variance > 0
    squares = np.where(tells, (bad - expected) ** 2 / np.where(tells, variance, 1), 0)
    return np.asarray(np.maximum(squares.sum(axis=(-1, -2)) / np.maximum(tells.sum(axis=(-1, -2)), 1), 1))
