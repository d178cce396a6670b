"""A baseline out of a range query of Prometheus: how many numbers there are, and how they lie."""

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import JsonValue


def finite_values(series: Iterable[Mapping[str, Any]]) -> list[float]:
    """Given the series of a range query, return all numbers in them. NaN and infinity say nothing and are left out."""
    read = (float(text) for one in series for _, text in one.get("values") or ())
    return [value for value in read if math.isfinite(value)]


def summary(values: list[float]) -> dict[str, JsonValue]:
    """Given numbers, return how they lie: samples, least, median, 95th of 100, greatest."""
    if not values:
        return {"samples": 0}
    ordered = sorted(values)
    # The nearest rank: the smallest number that at least 95 of 100 do not exceed.
    rank = math.ceil(0.95 * len(ordered)) - 1
    return {
        "samples": len(ordered),
        "least": ordered[0],
        "median": statistics.median(ordered),
        "p95": ordered[rank],
        "greatest": ordered[-1],
    }
