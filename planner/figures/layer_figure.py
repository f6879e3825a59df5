"""What a plan keeps of each layer, as heat strips."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.figures.figure_style import PALETTES, Palette, Theme, axis_style, plain, styled
from planner.results.layer_strips import Strip, layer_strips

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_STRIP_HEIGHT = 44
_AXIS_HEIGHT = 52
_TOP = 36
_MOST_CELLS = 32
"""In a row: more are too narrow for three signs on a page of 1280 pixels."""
_WIDE_CELLS = 20
"""Of which a row has room for larger signs."""
_MODES = ("zoom", "pan", "select", "lasso", "zoomin", "zoomout", "autoscale", "resetscale")
"""Ways to move about that a picture of this size has no use for."""
_CELLS = {
    "texttemplate": "%{text}",
    "hovertemplate": "layer %{x}, %{y}<br>%{hovertext}<extra></extra>",
    "showscale": False,
    "xgap": 2,
    "ygap": 8,
    "hoverongaps": False,
}


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
    """Return strips as a heat map, the first on top; those of many layers go on further down.

    Args:
        strips: Of the same layers.
        theme: Light or dark.
        scale: What colours stand for, in the words of Plotly.
    """
    palette = PALETTES[theme]
    parts = _parts(len(strips[0].cells) if strips else 0)
    size = 12 if parts and parts[0].stop <= _WIDE_CELLS else 10
    shared = scale | _CELLS | {"textfont": {"size": size, "color": palette.text}}
    heats = [_heat(strips, part, row) | shared for row, part in enumerate(parts)]
    strip_height = _STRIP_HEIGHT * max(len(strips), 1)
    row_height = strip_height + _AXIS_HEIGHT
    height = row_height * max(len(parts), 1)
    figure = styled(heats, theme)
    for row, heat in enumerate(heats):
        bottom = height - row * row_height - strip_height
        domain = [bottom / height, (bottom + strip_height) / height]
        across, down = _axes(heat, palette, parts[0].stop)
        figure.layout[heat["xaxis"].replace("x", "xaxis")] = across
        figure.layout[heat["yaxis"].replace("y", "yaxis")] = down | {"domain": domain}
    figure.update_layout(
        height=height + _TOP,
        margin={"t": _TOP, "b": 0},
        dragmode=False,
        modebar={"remove": _MODES},
    )
    return figure


def _parts(layers: int) -> list[slice]:
    """Return runs of layers of much the same length, each of which fits into the width."""
    rows = math.ceil(layers / _MOST_CELLS)
    length = math.ceil(layers / max(rows, 1))
    return [slice(row * length, (row + 1) * length) for row in range(rows)]


def _axes(
    heat: dict[str, Any], palette: Palette, length: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the axes of layers and of strips of one heat map, as wide as one of this length."""
    shared = axis_style(palette) | {"showgrid": False}
    first, last = heat["x"][0], heat["x"][-1]
    ends = [first - 0.5, max(last, first + length - 1) + 0.5]
    across = {"range": ends, "dtick": 1, "tickangle": 0, "anchor": heat["yaxis"]}
    name = {"title": {"text": "layer", "standoff": 4, "font": {"size": 13}}}
    down = {"anchor": heat["xaxis"], "autorange": "reversed", "ticks": "", "showline": False}
    return shared | across | name, shared | down


def _heat(strips: Sequence[Strip], part: slice, row: int) -> dict[str, Any]:
    """Return some layers of all strips as one heat map."""
    cells = [strip.cells[part] for strip in strips]
    number = row + 1 if row else ""
    return {
        "type": "heatmap",
        "x": [cell.layer for cell in cells[0]],
        "y": [plain(strip.name) for strip in strips],
        "z": [[np.nan if c.share is None else c.share for c in strip] for strip in cells],
        "text": [[plain(c.text) for c in strip] for strip in cells],
        "hovertext": [[plain(c.note) for c in strip] for strip in cells],
        "xaxis": f"x{number}",
        "yaxis": f"y{number}",
    }
