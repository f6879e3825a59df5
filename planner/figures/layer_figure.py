"""What a plan keeps of each layer, as heat strips."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.figures.figure_style import PALETTES, Theme, plain, styled
from planner.results.layer_strips import Strip, layer_strips

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_STRIP_HEIGHT = 46
_MARGINS = 80
_MODES = ("zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale", "resetscale")
"""Ways to move about that a picture of this size has no use for."""
_WIDTH = 1000
"""Pixels of a strip on a usual screen, by which letters are sized."""


def layer_figure(frame: "pd.DataFrame", theme: Theme = "light") -> "go.Figure":
    """Return what a plan keeps as one heat strip a kind of choice, with a cell a layer.

    Args:
        frame: As `RunPlan.layers` returns it.
        theme: Light or dark.
    """
    colours = PALETTES[theme].kept
    steps = np.linspace(0.0, 1.0, len(colours)).tolist()
    scale = {"colorscale": list(zip(steps, colours, strict=True)), "zmin": 0, "zmax": 1}
    return strip_figure(layer_strips(frame), theme, scale)


def strip_figure(strips: Sequence[Strip], theme: Theme, scale: dict[str, Any]) -> "go.Figure":
    """Return strips as a heat map, the first on top.

    Args:
        strips: Of the same layers.
        theme: Light or dark.
        scale: What colours stand for, in the words of Plotly.
    """
    layers = [cell.layer for cell in strips[0].cells] if strips else []
    cells = [strip.cells for strip in strips]
    heat = {
        "type": "heatmap",
        "x": layers,
        "y": [plain(strip.name) for strip in strips],
        "z": [[np.nan if c.share is None else c.share for c in row] for row in cells],
        "text": [[plain(c.text) for c in row] for row in cells],
        "texttemplate": "%{text}",
        "textfont": {"size": _letter_size(len(layers)), "color": PALETTES[theme].text},
        "showscale": False,
        "hovertext": [[plain(c.note) for c in row] for row in cells],
        "hovertemplate": "layer %{x}, %{y}<br>%{hovertext}<extra></extra>",
        "xgap": 2,
        "ygap": 8,
        "hoverongaps": False,
    }
    figure = styled([heat | scale] if strips else [], theme)
    figure.update_layout(
        height=_MARGINS + _STRIP_HEIGHT * max(len(strips), 1),
        margin={"t": 32, "b": 48},
        xaxis={"title": {"text": "layer"}, "showgrid": False, "dtick": _tick_step(len(layers))},
        yaxis={"autorange": "reversed", "showgrid": False, "ticks": ""},
        dragmode=False,
        modebar={"remove": _MODES},
    )
    return figure


def _letter_size(layers: int) -> int:
    """Return a size at which four signs fit into a cell."""
    return int(np.clip(_WIDTH / max(layers, 1) / 2.6, 6, 12))


def _tick_step(layers: int) -> int:
    return 1 if layers <= 32 else 5
