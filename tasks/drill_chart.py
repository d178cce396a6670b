"""The drills' trend as a picture: an SVG in a data address, so that the UI shows it without a file server."""

import base64
from collections.abc import Sequence

import pygal
from pygal.style import CleanStyle

from core.drill_trend import DrillPoint


def trend_image(points: Sequence[DrillPoint], *, objective_minutes: int) -> str:
    """Given points, newest first, return the chart as a `data:` address: seconds by phase, stacked, oldest at the left."""
    ordered = list(reversed(points))
    objective = f"; the objective is {objective_minutes * 60} s" if objective_minutes else ""
    chart = pygal.StackedBar(
        title=f"Recovery time of past drills (seconds, by phase{objective})",
        style=CleanStyle,
        width=900,
        height=360,
        x_label_rotation=35,
        legend_at_bottom=True,
        legend_at_bottom_columns=8,
        js=[],
        print_values=False,
    )
    chart.x_labels = [f"{point.time:%m-%d %H:%M} {point.database}" for point in ordered]
    names = list(dict.fromkeys(name for point in ordered for name in point.phases))
    for name in names:
        chart.add(name, [point.phases.get(name, 0) / 1000 for point in ordered])
    picture = chart.render(is_unicode=False)
    return "data:image/svg+xml;base64," + base64.b64encode(picture).decode("ascii")
