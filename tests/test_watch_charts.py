"""A watch in pictures: small, of what was seen alone, with gaps where nothing was known."""

import base64
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from matplotlib.axes import Axes

from core.watch_counts import BUCKETS, Counts
from tasks.watch_charts import charts
from tests.fix_counts import plain_day
from tests.fix_watched import watched

# matplotlib alone is a second.
pytestmark = pytest.mark.services
ZONE = ZoneInfo("Europe/Berlin")
PNG = "data:image/png;base64,"


@pytest.mark.parametrize("closed", [0, 1, 30, BUCKETS])
def test_charts_are_small_pictures_and_none_is_drawn_of_nothing(closed: int) -> None:
    day = plain_day()
    day.requests[20:40] = day.bad[20:40] = np.nan
    found = charts(
        watched({"errors": day, "slow $\\frac$": plain_day(bad=20)}, closed=closed), ZONE, restarts=[(0, 0), (25, 3)]
    )
    assert set(found) == ({"errors", "slow $\\frac$", "evidence", "restarts"} if closed else {"restarts"})
    for address in found.values():
        assert len(address) <= 200 * 1024
        assert base64.b64decode(address.removeprefix(PNG)).startswith(b"\x89PNG")
    assert "restarts" not in charts(watched({"errors": day}, closed=closed), ZONE)


def test_in_a_chart_what_was_not_known_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[Any, ...]] = []
    real = Axes.errorbar

    def noted(self: Axes, *found: Any, **named: Any) -> Any:
        drawn.append(found)
        return real(self, *found, **named)

    monkeypatch.setattr(Axes, "errorbar", noted)
    day = plain_day()
    day.requests[24:36] = day.bad[24:36] = np.nan
    day.requests[36:48] = day.bad[36:48] = 0
    charts(watched({"errors": day}), ZONE)
    (_, shares) = drawn[0]
    assert np.isnan(shares[2:4]).all()
    assert np.isfinite(np.delete(shares, [2, 3])).all()


def test_of_a_metric_of_which_nothing_is_known_nothing_is_drawn() -> None:
    nothing = Counts(*(np.full_like(one, np.nan) for one in vars(plain_day()).values()))
    assert "errors" not in charts(watched({"errors": nothing}), ZONE)
