"""Two plans layer by layer, as heat strips of what differs."""

from typing import TYPE_CHECKING

from planner.figures.figure_style import PALETTES, Theme, plain
from planner.figures.layer_figure import strip_figure
from planner.results.plan_difference import PlanDifference

if TYPE_CHECKING:
    import plotly.graph_objects as go


def difference_figure(difference: PlanDifference, theme: Theme = "light") -> "go.Figure":
    """Return what the second of two plans keeps more or less of each layer.

    Cells show percentage points of the dense model's; strips without a difference are left out.
    """
    low, middle, high = PALETTES[theme].less_or_more
    scale = {"colorscale": [(0.0, low), (0.5, middle), (1.0, high)], "zmin": -1, "zmax": 1}
    figure = strip_figure(difference.strips, theme, scale)
    first, second = (plain(plan.plan_id) for plan in (difference.first, difference.second))
    if difference.strips:
        told = f"percentage points: + {second} keeps more, − {first} keeps more, ≠ otherwise"
        figure.update_layout(title={"text": told, "font": {"size": 12}, "x": 0, "xref": "paper"})
    else:
        figure.add_annotation(
            text="both plans keep the same of every layer",
            showarrow=False,
            xref="paper",
            yref="paper",
            x=0.5,
            y=0.5,
        )
        figure.update_layout(xaxis={"visible": False}, yaxis={"visible": False})
    return figure
