"""The front of one run or several as a scatter plot."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from planner.figures.figure_axes import Axis
from planner.figures.figure_style import PALETTES, plain, styled
from planner.figures.front_marks import mark_shapes
from planner.figures.front_points import FrontPoints
from planner.figures.front_traces import RunTraces, Scene, Trace
from planner.figures.front_view import FrontView

if TYPE_CHECKING:
    import plotly.graph_objects as go

_HEADROOM = 1.15
"""How far an axis goes beyond the front: what is far worse is there for those who zoom out."""


def front_figure(points: Sequence[FrontPoints], view: FrontView) -> "go.Figure":
    """Return the fronts of runs as a scatter plot, the first run's in front of the others.

    Every point carries its run's name and its plan's id as ``customdata``. Zoom and hidden series
    survive updates of the same axes.

    Raises:
        SettingsError: If an axis is none.
    """
    runs, scene = _runs(points, view)
    figure = styled(_traces(runs, view, scene), view.theme)
    figure.update_layout(
        uirevision="front",
        xaxis=_axis(scene.x, points, scene),
        yaxis=_axis(scene.y, points, scene),
        legend={"orientation": "h", "y": -0.18, "yanchor": "top", "itemwidth": 40},
        hovermode="closest",
        shapes=mark_shapes(runs, view),
        coloraxis=_colour_axis(scene),
    )
    return figure


def marks_on_front(points: Sequence[FrontPoints], view: FrontView) -> list[dict[str, Any]]:
    """Return the shapes of `front_figure` alone, without its plans.

    Raises:
        SettingsError: If an axis is none.
    """
    runs, _ = _runs(points, view)
    return mark_shapes(runs, view)


def _runs(points: Sequence[FrontPoints], view: FrontView) -> tuple[list[RunTraces], Scene]:
    """Return what draws each run, and what they share."""
    dense = points[0].dense if points else {}
    scene = Scene(
        x=Axis.of(view.x, dense),
        y=Axis.of(view.y, dense),
        colour=Axis.of(view.colour, dense) if view.colour else None,
        splits=view.splits,
        theme=view.theme,
        is_single=len(points) < 2,
    )
    runs = [
        RunTraces(points=each, scene=scene, position=position)
        for position, each in enumerate(points)
    ]
    return runs, scene


def _traces(runs: Sequence[RunTraces], view: FrontView, scene: Scene) -> list[Trace]:
    """Return what runs show, from behind to before."""
    layers = [
        *([run.clouds() for run in runs] if view.shows_dominated else []),
        *(run.fronts() for run in reversed(runs)),
        *(run.recovered() for run in runs),
        *(run.baselines() for run in runs),
        _dense_marks([run.points for run in runs], scene),
    ]
    return [trace for layer in layers for trace in layer]


def _dense_marks(points: Sequence[FrontPoints], scene: Scene) -> list[Trace]:
    """Return the dense model as a mark, each one once."""
    places = {(scene.x.dense_value(each), scene.y.dense_value(each)) for each in points}
    known = [place for place in places if np.isfinite(place).all()]
    if not known:
        return []
    text = PALETTES[scene.theme].text
    marker = {"symbol": "square-open", "size": 12, "color": text, "line": {"width": 2}}
    return [
        {
            "type": "scatter",
            "x": [x for x, _ in known],
            "y": [y for _, y in known],
            "mode": "markers",
            "name": "dense model",
            "legendrank": 390,
            "marker": marker,
            "hovertemplate": "dense model<br>%{x}<br>%{y}<extra></extra>",
        }
    ]


def _axis(axis: Axis, points: Sequence[FrontPoints], scene: Scene) -> dict[str, Any]:
    layout = axis.ticks | {"title": {"text": plain(axis.label)}, "uirevision": axis.name}
    if span := _span(axis, points, scene):
        layout["range"] = span
    return layout


def _span(axis: Axis, points: Sequence[FrontPoints], scene: Scene) -> list[float]:
    """Return where an axis begins and ends to show all fronts with their errors."""
    found = [axis.dense_value(each) for each in points]
    for each in points:
        rows = each.rows_of_kind("front")
        for split in scene.splits:
            found += [bound for bounds in axis.bounds(each, split) for bound in bounds[rows]]
    finite = np.array(found)[np.isfinite(found)]
    if not len(finite):
        return []
    lowest, highest = float(finite.min()), float(finite.max())
    margin = (_HEADROOM - 1) / 2 * (highest - lowest or abs(highest) or 1.0)
    starts_at_zero = axis.name == "kl"
    return [-margin / 2 if starts_at_zero else lowest - margin, highest + margin]


def _colour_axis(scene: Scene) -> dict[str, Any]:
    if scene.colour is None:
        return {}
    return {
        "colorscale": list(PALETTES[scene.theme].scale),
        "colorbar": {
            "title": {"text": plain(scene.colour.label), "font": {"size": 13}, "side": "right"},
            "ticksuffix": scene.colour.suffix,
        },
    }
