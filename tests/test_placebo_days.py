"""Release-free days put in a release's place: as many as are known, each with its own earlier weeks."""

import numpy as np

from core.placebo import days_needed, is_confirmed, least_days, placebos
from core.watch_counts import BUCKETS, Array
from core.watch_days import LAG_DAYS

Days = dict[int, tuple[Array, Array]]


def quiet() -> Days:
    return {lag: (np.full(BUCKETS, 600.0), np.full(BUCKETS, 3.0)) for lag in days_needed()}


def test_nineteen_days_and_their_weeks_are_needed_the_farthest_first() -> None:
    needed = days_needed()
    assert needed[0] == 19 + max(LAG_DAYS)
    assert set(range(1, 20)) <= set(needed)
    assert list(needed) == sorted(needed, reverse=True)


def test_days_alike_confirm_an_alarm_and_a_day_like_it_does_not() -> None:
    found = placebos(quiet())
    assert len(found) == least_days()
    assert is_confirmed(50.0, found) is True
    wild = quiet()
    for lag in (3, 5):
        wild[lag][1][100:] = 60.0
    assert is_confirmed(50.0, placebos(wild)) is False


def test_a_day_of_which_too_little_is_known_is_no_placebo_nor_are_those_that_need_it() -> None:
    days = quiet()
    days[19][0][:60] = np.nan
    # Day 19 itself, and days 12 and 5, whose earlier weeks it is among.
    assert len(placebos(days)) == least_days() - 3
    assert is_confirmed(50.0, placebos(days)) is None
    del days[2]
    assert len(placebos(days)) == least_days() - 4
    assert placebos({}) == ()
