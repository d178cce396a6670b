"""A watch in pictures: PNGs in data addresses, so that the UI shows them without a file server. Where nothing was known there is a gap, not a zero."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import numpy as np

from core.watch_counts import BUCKETS, BUCKETS_AN_HOUR, Array, Counts
from core.watch_days import BUCKET
from core.watch_figures import hourly_shares, middle_of_hours
from core.watch_record import counts_of
from core.watch_report import Watched, cut
from core.watch_verdict import MetricVerdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TITLES = {"errors": "Share of failed requests", "slow": "Share of slow requests"}
_NEW, _OLD, _UNKNOWN = "tab:red", "tab:blue", "0.88"
# Below it E says nothing but "no evidence": days on which nothing is wrong lie far down.
_LEAST_E = 0.01
# Above it E says nothing more, and would squeeze the rest: of a service that is down it reaches 1e300.
_MOST_E = 1e9
_MOST_TICKS = 9


def charts(watched: Watched, zone: ZoneInfo, *, restarts: Sequence[tuple[int, int]] | None = None) -> dict[str, str]:
    """Given a watch, return its charts by name (each metric's, `evidence`, `restarts`) as `data:` addresses; one that has nothing to show is not there.

    Args:
        restarts: (bucket, restarts in it) where Pods were looked at; None: nobody looked. A bucket that is not named is not known.
    """
    counts = counts_of(watched.baseline, watched.tick.metrics, watched.tick.closed)
    found = {}
    for one in watched.judgement.metrics:
        if one.metric in counts and np.nansum(counts[one.metric].requests) > 0:
            found[one.metric] = _share_chart(watched, zone, one, counts[one.metric])
    guard = [watched.judgement.guard] if watched.judgement.guard is not None else []
    if drawn := [one for one in (*watched.judgement.metrics, *guard) if one.process]:
        found["evidence"] = _evidence_chart(watched, zone, drawn, counts)
    if restarts is not None:
        found["restarts"] = _restarts_chart(watched, zone, restarts)
    return found


def _share_chart(watched: Watched, zone: ZoneInfo, found: MetricVerdict, counts: Counts) -> str:
    """By hour: the new version's share of bad requests with its interval, and that of the same hours of the days before as a band."""
    divisor = found.dispersion if math.isfinite(found.dispersion) else 1.0
    new = hourly_shares(counts.requests, counts.bad, divisor)
    at = middle_of_hours()
    figure, axes = _figure(watched, zone)
    if counts.days:
        old = hourly_shares(counts.baseline_requests, counts.baseline_bad, divisor)
        axes.fill_between(at, 100 * old.low, 100 * old.high, color=_OLD, alpha=0.2, linewidth=0)
        axes.plot(at, 100 * old.share, color=_OLD, marker=".", label=f"the same hours of {counts.days} days before")
    bars = np.array([new.share - new.low, new.high - new.share])
    axes.errorbar(
        at, 100 * new.share, yerr=100 * bars, color=_NEW, fmt="o", markersize=4, capsize=2, label="new version"
    )
    _shade(axes, ~np.isfinite(counts.requests), watched.tick.closed)
    if found.alarm is not None:
        axes.axvline(found.alarm + 1, color="black", linestyle=":", label="alarm")
    axes.set_ylim(bottom=0)
    axes.set_ylabel("%")
    _title(
        axes,
        watched,
        f"{_TITLES.get(found.metric, f'Share of bad requests: {cut(found.metric)}')}, by hour, with 95 % intervals",
    )
    return _address(figure, axes)


def _evidence_chart(
    watched: Watched, zone: ZoneInfo, metrics: Sequence[MetricVerdict], counts: dict[str, Counts]
) -> str:
    """E after each bucket, and what makes an alarm of it."""
    figure, axes = _figure(watched, zone)
    unseen = np.zeros(BUCKETS, dtype=bool)
    for seen in (found.seen for found in counts.values()):
        unseen |= ~seen
    for one in metrics:
        process = np.full(BUCKETS, np.nan)
        process[: len(one.process)] = one.process[:BUCKETS]
        process[watched.tick.closed :] = np.nan
        # The guard counts one of the metrics, and stands still where none is known.
        process[~counts[one.metric].seen if one.metric in counts else unseen] = np.nan
        # E of a bucket stands at its end. A bucket alone between two gaps is a dot.
        axes.plot(
            np.arange(BUCKETS) + 1, np.clip(process, _LEAST_E, _MOST_E), marker=".", markersize=2, label=cut(one.metric)
        )
        if one.alarm is not None:
            axes.axvline(one.alarm + 1, color="black", linestyle=":", label=f"alarm: {cut(one.metric)}")
    for at in sorted({one.threshold for one in metrics}):
        axes.axhline(at, color="black", linestyle="--", label=f"alarm at E = {at:g}")
    _shade(axes, unseen, watched.tick.closed)
    axes.set_yscale("log")
    least, most = axes.get_ylim()
    axes.set_ylim(max(least, _LEAST_E / 2), max(most, 2 * max(one.threshold for one in metrics)))
    axes.set_ylabel("E, logarithmic, cut at 0.01 and 10⁹")
    _title(axes, watched, "Evidence that the new version is worse, by bucket")
    return _address(figure, axes)


def _restarts_chart(watched: Watched, zone: ZoneInfo, restarts: Sequence[tuple[int, int]]) -> str:
    """Restarts of the new version's Pods by bucket."""
    from matplotlib.ticker import MaxNLocator  # noqa: PLC0415 - as in _figure

    figure, axes = _figure(watched, zone)
    found = {bucket: number for bucket, number in restarts if 0 <= bucket < watched.tick.closed}
    axes.bar([bucket + 0.5 for bucket in found], list(found.values()), width=1.0, color=_NEW, label="restarts")
    _shade(axes, np.array([bucket not in found for bucket in range(BUCKETS)]), watched.tick.closed)
    axes.set_ylim(0, max(1, *found.values()) * 1.1 if found else 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_ylabel("restarts")
    _title(axes, watched, "Restarts of the new version's Pods, by bucket")
    return _address(figure, axes)


def _figure(watched: Watched, zone: ZoneInfo) -> tuple[Any, Axes]:
    # A second's import that only the end of a watch needs. The object interface: pyplot keeps state for the whole process, which threads share.
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.set_xlim(0, BUCKETS)
    places = range(0, BUCKETS + 1, BUCKETS // (_MOST_TICKS - 1))
    times = [(watched.start.first + place * BUCKET).astimezone(zone) for place in places]
    axes.set_xticks(list(places), [f"{time:%H:%M}\n{time:%m-%d}" for time in times], fontsize=8)
    axes.set_xticks(range(0, BUCKETS + 1, BUCKETS_AN_HOUR), minor=True)
    axes.set_xlabel(f"time in {zone.key}", fontsize=8)
    axes.grid(alpha=0.3)
    return figure, axes


def _shade(axes: Axes, unknown: Any, closed: int) -> None:
    """Show which buckets of those that are over nobody knows."""
    grey: Array = np.asarray(unknown)[:closed].astype(float)
    edges = np.flatnonzero(np.diff(np.concatenate([[0.0], grey, [0.0]])))
    for number, (begin, end) in enumerate(zip(edges[::2], edges[1::2], strict=True)):
        axes.axvspan(float(begin), float(end), color=_UNKNOWN, zorder=0, label="" if number else "not known")
    if closed < BUCKETS:
        axes.axvspan(closed, BUCKETS, color=_UNKNOWN, alpha=0.4, zorder=0, label="not over yet")


def _title(axes: Axes, watched: Watched, text: str) -> None:
    # A name with two dollar signs is no formula.
    axes.set_title(f"{text}\n{watched.start.release_id} in {watched.start.environment}", fontsize=10, parse_math=False)


def _address(figure: Any, axes: Axes) -> str:
    for text in axes.legend(fontsize=8).get_texts():
        text.set_parse_math(False)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode("ascii")
