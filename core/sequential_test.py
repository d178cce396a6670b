"""Is the new version worse than the days before: a test that may be looked at after every bucket, for a whole day, without more false alarms for it.

Given the x + y bad requests of a bucket, x of n requests new and y of m of the baseline: were the new version's share of bad requests ψ times the baseline's,
x ~ Bin(x + y, ψn / (ψn + m)) (Lindon & Malek 2022, "Anytime-valid inference for multinomial count data"). The e-process

    E_T = Σ_k w_k Π_{t ≤ T} L_t(ψ_k) / L_t(ψ₀),    L_t(ψ) = (ψn / (ψn + m))^x · (m / (ψn + m))^y

has an expectation of at most 1 at any time that one chooses to stop, as long as the true factor is at most ψ₀. So E ≥ M/α comes with probability α/M at most,
ever (Ville's inequality), and of M metrics together with α. ψ₀ is above 1 on purpose: days differ by themselves, and a little worse is no reason to go back.

A trouble that begins in the evening would have to make up for the good evidence of a whole day. So the process is begun anew every hour, with a share of the
weight each, and what has not begun counts 1 (Shin, Ramdas & Rinaldo 2023, "E-detectors"): still an e-process, since a mean of such is one.

Counts are divided by the dispersion φ̂ (core.dispersion). That makes the bound one by approximation: φ̂ is an estimate, of few days, and bursts have longer
tails than it knows of. So no bucket counts for more than MOST_OF_A_BUCKET: at least three of them must speak, unless most requests of one fail. Bounding a
factor from above makes it smaller, and the bound on false alarms stays. benchmarks/judgement.py measures what comes of all this.
"""

from dataclasses import dataclass

import numpy as np

from core.dispersion import dispersion
from core.watch_counts import BUCKETS, BUCKETS_AN_HOUR, HOURS, Array, Counts

# By simulation (benchmarks/judgement.py): with 1.25 and four baseline days of lognormal noise (σ = 0.2) false alarms were 14 % of days, with 1.5 below 5 %.
TOLERATED_FACTOR = 1.5
ALPHA = 0.05
# Natural logarithm. Without it, and with 1 + 1.2 (φ̂ - 1) instead, false alarms in days with noise and bursts were 4.6 % instead of 3.2 %, and less was found.
MOST_OF_A_BUCKET = 3.0
# Where at least this share of a bucket's requests are bad, no burst explains it.
MOST_FAIL = 0.5


@dataclass(frozen=True)
class Mixture:
    """Which factors the process bets on, with a weight each. Few: each halving of a weight costs log 2 of evidence."""

    factors: tuple[float, ...] = (2, 3, 4.5, 7, 12, 30)
    weights: tuple[float, ...] = (0.22, 0.25, 0.25, 0.15, 0.08, 0.05)


MIXTURE = Mixture()


def e_process(counts: Counts, *, tolerated: float = TOLERATED_FACTOR, mixture: Mixture = MIXTURE) -> Array:
    """Given counts, return E after each bucket, (…, 288). Raise ValueError with fewer than two baseline days."""
    return e_process_of(counts, dispersion(counts), tolerated=tolerated, mixture=mixture)


def e_process_of(
    counts: Counts, divisor: Array, *, tolerated: float = TOLERATED_FACTOR, mixture: Mixture = MIXTURE
) -> Array:
    """The same, given by how much counts are divided."""
    known, counts = counts.compared, counts.known
    new = np.where(known, counts.bad, 0) / divisor[..., None]
    old = np.where(known, counts.baseline_bad.sum(axis=-2), 0) / divisor[..., None]
    # Where a bucket is not compared both counts are 0, and so is its part, whatever stands here.
    requests = np.where(known, counts.requests, 1)
    baseline = np.where(known, counts.baseline_requests.sum(axis=-2), 1)
    most = np.where(counts.bad >= MOST_FAIL * requests, np.inf, MOST_OF_A_BUCKET)
    found = np.zeros_like(new)
    for factor, weight in zip(mixture.factors, mixture.weights, strict=True):
        ratio = (tolerated * requests + baseline) / (factor * requests + baseline)
        evidence = new * np.log(factor / tolerated) + (new + old) * np.log(ratio)
        found += weight * begun_hourly(np.cumsum(np.minimum(evidence, most), axis=-1))
    return found


def begun_hourly(evidence: Array) -> Array:
    """Given the logarithm of a process begun with the first bucket, return the mean of those begun with each hour."""
    before = np.concatenate([np.zeros_like(evidence[..., :1]), evidence[..., :-1]], axis=-1)
    begins = np.arange(BUCKETS) % BUCKETS_AN_HOUR == 0
    # The sum over the begun ones of exp(evidence now - evidence at the beginning): the second part is accumulated, by logarithms.
    shares = np.logaddexp.accumulate(np.where(begins, -before, -np.inf), axis=-1)
    begun = np.cumsum(begins)
    # e^700 is the largest that a float holds.
    return np.asarray((np.exp(np.minimum(evidence + shares, 700)) + (HOURS - begun)) / HOURS)


def threshold(metrics: int, alpha: float = ALPHA) -> float:
    """Given how many metrics may raise an alarm, return the E at which one of them does."""
    return metrics / alpha


def first_alarm(process: Array, at: float) -> Array:
    """Given processes and a threshold, return the bucket after which each reached it first; infinite where it never did."""
    reached = process >= at
    return np.where(reached.any(axis=-1), reached.argmax(axis=-1), np.inf)
