"""Calibration by days on which nothing was released: how often does the test call such a day worse?

Each earlier release-free day is put in the new version's place, against days before it. Were the day of the release like them, its rank among them would be
any with the same probability (exchangeable; the permutation test's argument, Lehmann & Romano, Testing Statistical Hypotheses, §15.2; Abadie, Diamond &
Hainmueller 2010 use it as "placebo tests"). So the share of days, itself among them, with at least its value is at most α with probability α, whatever the
noise is. With fewer than 19 such days no share gets down to 5 %, and this says nothing.
"""

from collections.abc import Sequence

from core.sequential_test import ALPHA


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
