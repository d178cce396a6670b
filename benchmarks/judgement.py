"""How often the watch calls a good day worse, and how often and how soon it finds a bad one.

    .venv/bin/python -m benchmarks.judgement --days 4000

Whole days are made up (benchmarks/simulated_days.py) and judged by the very functions that the watch uses, after each of the 288 buckets. Family: three
independent metrics, each with the threshold 3/α. Seeds are fixed, so that two runs print the same. Beside it the naive rule that many dashboards apply: an
exact test of the new version's counts so far, after each bucket, an alarm when p < 0.05.
"""

import math
from dataclasses import replace
from typing import Annotated

import numpy as np
import typer

from benchmarks.measuring import Ratio, finish
from benchmarks.simulated_days import NOISES, Setting, simulate
from core.burn_rate import first_burn_alarm
from core.dispersion import dispersion
from core.sequential_test import ALPHA, e_process, first_alarm, threshold
from core.watch_counts import BUCKETS_AN_HOUR, Array, Counts

METRICS = 3
VOLUMES = (346, 3460)
# Twice the ratio of bad requests at the larger volume: the guard's objective in the simulation.
OBJECTIVE = 0.99
HOUR_17 = 17 * BUCKETS_AN_HOUR
WITHIN_2_HOURS = 2 * BUCKETS_AN_HOUR
# What must be found: the setting, the share of days, and by when (buckets after its beginning; None: by the day's end).
FOUND: tuple[tuple[str, Setting, float | None, int | None], ...] = (
    ("poisson, factor 2 from the beginning", Setting("poisson", 346, 2), 0.95, None),
    ("both, factor 3 from the beginning", Setting("both", 346, 3), 0.88, None),
    ("both, factor 10 from hour 17, within 2 h", Setting("both", 346, 10, HOUR_17), 0.95, WITHIN_2_HOURS),
    ("both, factor 5 from hour 17, by the day's end", Setting("both", 346, 5, HOUR_17), 0.90, None),
    ("poisson, factor 3 from hour 17, within 2 h", Setting("poisson", 346, 3, HOUR_17), 0.70, WITHIN_2_HOURS),
    ("both, factor 2 from the beginning", Setting("both", 346, 2), None, None),
)


def alarms(counts: Counts, signals: int = METRICS) -> Array:
    """The first alarm of each day, by one metric."""
    return first_alarm(e_process(counts), threshold(signals))


def naive_alarm_share(setting: Setting, days: int, random: np.random.Generator) -> float:
    """The share of good days that the naive rule calls worse at some look: the exact conditional test of the counts so far, one-sided, p < 0.05."""
    counts = simulate(setting, days, random)
    new = np.cumsum(counts.bad, axis=-1)
    both = new + np.cumsum(counts.baseline_bad.sum(axis=-2), axis=-1)
    return float(np.mean([_ever_below(one, all_of) for one, all_of in zip(new, both, strict=True)]))


def _ever_below(new: Array, both: Array) -> bool:
    return any(_upper_tail(int(x), int(total)) < ALPHA for x, total in zip(new, both, strict=True) if total)


def _upper_tail(x: int, total: int, share: float = 0.2) -> float:
    """P(X ≥ x), X ~ Bin(total, share)."""
    if x <= total * share:
        return 1.0
    terms = (
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log(1 - share)
        for k in range(x, min(total, x + 400) + 1)
    )
    return math.fsum(math.exp(one) for one in terms)


def all_fail(counts: Counts, onset: int) -> Counts:
    """The same days, on which every request of the new version is bad from a bucket on."""
    bad = np.where(np.arange(counts.bad.shape[-1]) >= onset, counts.requests, counts.bad)
    return replace(counts, bad=bad)


def upper_limit(share: float, days: int) -> float:
    """The 95 % upper limit of a share seen in so many days (Wilson 1927, one-sided)."""
    z = 1.6449
    middle = share + z * z / (2 * days)
    return (middle + z * math.sqrt(share * (1 - share) / days + z * z / (4 * days * days))) / (1 + z * z / days)


def family_false_alarms(setting: Setting, days: int, random: np.random.Generator, *, guarded: bool) -> float:
    """The share of good days on which one of three metrics, or the guard when there is one, raised an alarm at any of the 288 looks."""
    signals = METRICS + guarded
    found = []
    for metric in range(METRICS):
        counts = simulate(setting, days, random)
        found.append(alarms(counts, signals))
        if guarded and metric == 0:
            divisor = dispersion(counts)
            found.append(first_burn_alarm(counts.requests, counts.bad, OBJECTIVE, divisor, threshold(signals)))
    return float(np.isfinite(np.minimum.reduce(found)).mean())


def main(
    days: Annotated[int, typer.Option(help="Simulated days of each setting.", min=100)] = 4000,
    naive_days: Annotated[int, typer.Option(help="Of these the naive rule judges so many.", min=20)] = 400,
) -> None:
    """Simulate."""
    ratios: list[Ratio] = []
    context: dict[str, object] = {"days": days}
    for number, noise in enumerate(NOISES):
        for volume in VOLUMES:
            setting = Setting(noise, volume)
            for guarded in (False, True):
                seed = np.random.default_rng([1, number, volume])
                share = family_false_alarms(setting, days, seed, guarded=guarded)
                name = f"false alarms, {noise}, {volume} a day{', with the guard' if guarded else ''}"
                ratios.append(Ratio(name, share, ALPHA))
                ratios.append(Ratio(f"{name}: 95 % upper limit", upper_limit(share, days), 0.06))
            naive = naive_alarm_share(setting, naive_days, np.random.default_rng([2, number, volume]))
            context[f"naive rule, {noise}, {volume} a day, one metric: false alarms"] = round(naive, 3)
    for number, (name, setting, bar, within) in enumerate(FOUND):
        found = alarms(simulate(setting, days, np.random.default_rng([3, number])))
        share = float((found < setting.onset + within).mean() if within else np.isfinite(found).mean())
        if bar is None:
            context[f"found: {name}"] = round(share, 3)
        else:
            ratios.append(Ratio(f"found: {name}", share, bar, at_most=False))
    dead = alarms(all_fail(simulate(Setting("both", 346), days, np.random.default_rng([4])), HOUR_17))
    ratios.append(
        Ratio("found: all requests fail, within one bucket", float((dead <= HOUR_17).mean()), 1, at_most=False)
    )
    finish("judgement", ratios, context)


if __name__ == "__main__":
    typer.run(main)
