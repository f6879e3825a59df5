"""A picture of plans as the browser gets it: in whole, or what changes on the one it has.

Plans are sent once. A budget or a chosen plan changes a few marks, which alone are sent then.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from dash import Patch, no_update

from planner.browse.brush import Inside
from planner.figures.front_figure import front_figure, marks_on_front
from planner.figures.front_points import FrontPoints
from planner.figures.front_view import FrontView
from planner.settings.budget import Budget

_DRAWN_FROM = ("revisions", "x", "y", "colour", "dominated", "splits", "theme")


def drawing(
    points: Sequence[FrontPoints],
    asked: Mapping[str, Any],
    drawn: Sequence[Any] | None,
    brushed: Inside | None,
) -> tuple[Any, Any]:
    """Return a picture of plans, or only its marks if all else of it is on the screen.

    Args:
        points: Of the chosen runs.
        asked: What the page is at.
        drawn: What the picture on the screen was made from.
        brushed: Plans inside the box or lasso; `None`: there is no such.

    Returns:
        The figure, or a patch for it; and what it was made from.
    """
    view = _view(asked)
    marks = marks_on_front(points, view)
    named = [mark["name"] for mark in marks if mark["showlegend"]]  # as the legend does
    drawn_from = [*(asked[name] for name in _DRAWN_FROM), named]
    if drawn == drawn_from:
        patch = Patch()
        patch["layout"]["shapes"] = marks
        return patch, no_update
    figure = front_figure(points, view)
    _mark_brushed(figure, points, brushed)
    return figure, drawn_from


def brush_patch(
    points: Sequence[FrontPoints], asked: Mapping[str, Any], brushed: Inside | None
) -> Any:
    """Return what changes on a picture if other plans are brushed.

    Args:
        points: Of the chosen runs.
        asked: What the page is at.
        brushed: Those plans; `None`: all stand out again.
    """
    if not points or not asked["x"] or not asked["y"]:
        return no_update
    patch = Patch()
    figure = front_figure(points, _view(asked))
    _mark_brushed(figure, points, brushed)
    for place, trace in enumerate(figure.data):
        if trace.customdata is not None:
            patch["data"][place]["selectedpoints"] = trace.selectedpoints
    if brushed is None:
        patch["layout"]["selections"] = []
    return patch


def unpacked(figure: go.Figure) -> dict[str, Any]:
    """Return a figure of which Plotly's script sees what stays the same.

    It unpacks arrays anew whenever anything changes, and takes them, like a template, for others:
    all plans would be drawn again for a single mark.
    """

    def plain(part: Any) -> Any:
        if isinstance(part, np.ndarray):
            return part.tolist()
        if isinstance(part, dict):
            return {name: plain(value) for name, value in part.items()}
        return part

    layout = figure.layout.to_plotly_json()
    layout.pop("template", None)
    return {"data": [plain(trace.to_plotly_json()) for trace in figure.data], "layout": layout}


def _view(asked: Mapping[str, Any]) -> FrontView:
    answered = asked["answered"] or {"budget": None, "best": None}
    return FrontView(
        x=asked["x"],
        y=asked["y"],
        colour=asked["colour"],
        budget=Budget.parse(answered["budget"]) if answered["budget"] else None,
        best=(answered["run"], answered["best"]) if answered["best"] else None,
        selected=tuple((run, plan_id) for run, plan_id in asked["selection"] or ()),
        shows_dominated=bool(asked["dominated"]),
        splits=tuple(asked["splits"] or ()),
        theme="dark" if asked["theme"] == "dark" else "light",
    )


def _mark_brushed(
    figure: go.Figure, points: Sequence[FrontPoints], brushed: Inside | None
) -> None:
    """Let all plans stand back but those that are brushed."""
    if brushed is None:
        return
    inside = {each.name: set(each.customdata[brushed[each.name], 1]) for each in points}
    for trace in figure.data:
        if trace.customdata is not None:
            trace.selectedpoints = [
                place
                for place, (run, plan_id) in enumerate(trace.customdata)
                if plan_id in inside[run]
            ]
