"""Days of requests that a computer made up: what benchmarks/judgement.py judges.

Traffic of 600 · (1 + 0.8 sin) requests a bucket, lowest at midnight and highest at noon; so many bad ones a day by chance; four baseline days of the same. Days differ by

- poisson: chance alone;
- day: a factor for each day, lognormal with σ = 0.2 and mean 1;
- burst: a factor for each bucket, gamma distributed with mean 1 and variance 2;
- both.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from core.watch_counts import BUCKETS, Array, Counts

Noise = Literal["poisson", "day", "burst", "both"]
NOISES: tuple[Noise, ...] = ("poisson", "day", "burst", "both")
REQUESTS = 600 * (1 + 0.8 * np.sin(2 * np.pi * (np.arange(BUCKETS) - BUCKETS / 4) / BUCKETS))
DAY_SIGMA, BURST_VARIANCE = 0.2, 2.0


@dataclass(frozen=True)
class Setting:
    """What is simulated: `bad_a_day` bad requests a day in the mean, times `factor` in the new version from the bucket `onset` on."""

    noise: Noise
    bad_a_day: int
    factor: float = 1.0
    onset: int = 0
    baseline_days: int = 4

    def well(self) -> "Setting":
        """The same without a trouble."""
        return replace(self, factor=1.0)


def simulate(setting: Setting, days: int, random: np.random.Generator) -> Counts:
    """Make up so many days, each with its baseline."""
    rate = REQUESTS * (setting.bad_a_day / REQUESTS.sum())
    worse = np.where(np.arange(BUCKETS) >= setting.onset, setting.factor, 1.0)
    shape = (days, setting.baseline_days, BUCKETS)
    new = random.poisson(rate * worse * _noise(setting.noise, (days, BUCKETS), random))
    old = random.poisson(rate * _noise(setting.noise, shape, random))
    requests = np.broadcast_to(REQUESTS, (days, BUCKETS))
    return Counts(requests, new.astype(float), np.broadcast_to(REQUESTS, shape), old.astype(float))


def _noise(noise: Noise, shape: tuple[int, ...], random: np.random.Generator) -> Array:
    factor = np.ones(shape)
    if noise in {"day", "both"}:
        factor = factor * random.lognormal(-(DAY_SIGMA**2) / 2, DAY_SIGMA, (*shape[:-1], 1))
    if noise in {"burst", "both"}:
        factor = factor * random.gamma(1 / BURST_VARIANCE, BURST_VARIANCE, shape)
    return factor
