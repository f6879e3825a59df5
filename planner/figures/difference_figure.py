"""Two plans layer by layer, as heat strips of what differs."""

import plotly.graph_objects as go

from planner.figures.figure_style import PALETTES, Theme, plain
from planner.figures.layer_figure import strip_figure
from planner.results.plan_difference import PlanDifference


def difference_figure(difference: PlanDifference, theme: Theme = "light") -> go.Figure:
    """Return what the second of two plans keeps more or less of each layer.

    Cells show percentage points of the dense model's; strips without a difference are left out.
    """
    palette = PALETTES[theme]
    scale = [(0.0, palette.series[1]), (0.5, palette.ground), (1.0, palette.series[0])]
    bar = {
        "title": {"text": "kept more"},
        "tickvals": [-1, 0, 1],
        "ticktext": [
            f"by {plain(difference.first.plan_id)}",
            "alike",
            f"by {plain(difference.second.plan_id)}",
        ],
        "thickness": 12,
    }
    figure = strip_figure(
        difference.strips, theme, {"colorscale": scale, "zmin": -1, "zmax": 1, "colorbar": bar}
    )
    if not difference.strips:
        note = {"text": "both plans keep the same of every layer", "showarrow": False}
        figure.add_annotation(note | {"xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5})
        figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
    return figure
