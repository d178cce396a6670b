"""The drills' trend as a picture: a PNG in a data address, so that the UI shows it without a file server."""

import base64
import io
from collections.abc import Sequence

from core.drill_trend import DrillPoint


def trend_image(points: Sequence[DrillPoint], *, objective_minutes: int) -> str:
    """Given points, newest first, return the chart as a `data:` address: seconds by phase, stacked, oldest at the left; the objective (0: none) as a line."""
    # A second's import that only this step needs. The object interface: pyplot keeps state for the whole process, which threads share.
    from matplotlib.figure import Figure  # noqa: PLC0415

    ordered = list(reversed(points))
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(ordered))
    heights = [0.0 for _ in ordered]
    for name in dict.fromkeys(name for point in ordered for name in point.phases):
        seconds = [point.phases.get(name, 0) / 1000 for point in ordered]
        axes.bar(places, seconds, bottom=heights, label=name)
        heights = [below + more for below, more in zip(heights, seconds, strict=True)]
    if objective_minutes:
        axes.axhline(objective_minutes * 60, color="black", linestyle="--", label=f"objective, {objective_minutes} min")
    axes.set_xticks(places, [f"{point.time:%m-%d %H:%M}\n{point.database}" for point in ordered], fontsize=7)
    axes.set_ylabel("seconds")
    axes.set_title("Recovery time of past drills, by phase")
    axes.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=100)
    return "data:image/png;base64," + base64.b64encode(picture.getvalue()).decode("ascii")
