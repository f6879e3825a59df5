"""A picture of plans as the browser gets it: in whole, or what changes on the one it has.

Plans are sent once. A budget or a chosen plan changes a few marks, which alone are sent then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
from dash import Patch, no_update

from planner.browse.brush import Inside
from planner.figures.front_figure import FrontView, front_figure
from planner.figures.front_points import FrontPoints
from planner.settings.budget import Budget

_MARKS_OF_A_RUN = 3
"""Traces around plans: its knee, the best and the chosen ones; empty where there is none, so that
an answer changes no other's place."""
_NO_MARK = {"type": "scatter", "x": [], "y": [], "showlegend": False, "hoverinfo": "skip"}
_DRAWN_FROM = ("revisions", "x", "y", "colour", "dominated", "splits", "theme")


def drawing(
    points: Sequence[FrontPoints],
    asked: Mapping[str, Any],
    drawn: Mapping[str, Any] | None,
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
    drawn_from = [asked[name] for name in _DRAWN_FROM]
    most_marks = _MARKS_OF_A_RUN * len(points)
    if drawn and drawn["from"] == drawn_from:
        light = front_figure(points, replace(view, shows_dominated=False, splits=view.splits[:1]))
        _mark_brushed(light, points, brushed)
        return _patched(light, drawn["plans"], most_marks), no_update
    figure = front_figure(points, view)
    marks = sum(map(_is_mark, figure.data))
    figure.add_traces([go.Scatter(_NO_MARK)] * (most_marks - marks))
    _mark_brushed(figure, points, brushed)
    return figure, {"from": drawn_from, "plans": len(figure.data) - most_marks}


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


def _is_mark(trace: Any) -> bool:
    """Return whether a trace is a ring around plans; these come last."""
    return bool(trace.mode == "markers" and trace.hoverinfo == "skip")


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


def _patched(light: go.Figure, plans: int, most_marks: int) -> Patch:
    """Return what changes on a picture whose plans stay: the marks, and the shapes.

    Args:
        light: The picture, of which plans may be missing.
        plans: Traces before the marks on the screen.
        most_marks: Traces that there are for marks.
    """
    marks = [trace.to_plotly_json() for trace in light.data if _is_mark(trace)]
    patch = Patch()
    for place, trace in enumerate([*marks, *[_NO_MARK] * (most_marks - len(marks))]):
        patch["data"][plans + place] = trace
    patch["layout"]["shapes"] = light.layout.to_plotly_json().get("shapes", [])
    return patch


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
