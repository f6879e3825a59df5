"""The two pictures of plans: their axes, what is drawn, and the brush over both.

Tens of thousands of plans are sent once. A budget or a chosen plan changes a few marks, which
alone are sent then.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import numpy as np
import plotly.graph_objects as go
from dash import Dash, Input, Output, Patch, State, no_update

from planner.browse import ids
from planner.browse.address import Address
from planner.browse.brush import Brush
from planner.browse.callbacks.in_browser import in_browser
from planner.browse.callbacks.run_callbacks import Revisions, points_of
from planner.browse.elements import height_of
from planner.browse.run_shelf import RunShelf
from planner.figures.figure_axes import Axis, Split, axis_names
from planner.figures.front_figure import FrontView, front_figure
from planner.figures.front_points import FrontPoints
from planner.settings.budget import Budget

PICKERS = (ids.X, ids.Y, ids.COLOUR, ids.OTHER_X, ids.OTHER_Y)
_MARKS_OF_A_RUN = 3
"""Traces around plans: its knee, the best and the chosen ones; empty where there is none, so that
an answer changes no other's place."""
_PLOT_HEIGHT, _LEGEND_HEIGHT = 380, 100
"""Pixels; of a legend for each run."""
_NO_MARK = {"type": "scatter", "x": [], "y": [], "showlegend": False, "hoverinfo": "skip"}
_COMMON = {
    "revisions": (ids.REVISIONS, "data"),
    "colour": (ids.COLOUR, "value"),
    "dominated": (ids.DOMINATED, "value"),
    "splits": (ids.SPLITS, "value"),
    "theme": (ids.THEME_NOW, "data"),
    "answered": (ids.ANSWERED, "data"),
    "selection": (ids.SELECTION, "data"),
}
"""What both pictures are drawn from, besides their axes."""
_DRAWN_FROM = ("revisions", "x", "y", "colour", "dominated", "splits", "theme")


def register(app: Dash, shelf: RunShelf) -> None:
    """Add the callbacks."""

    @app.callback(
        output={
            "options": [Output(name, "options") for name in PICKERS],
            "values": [Output(name, "value") for name in PICKERS],
        },
        inputs={
            "revisions": Input(ids.REVISIONS, "data"),
            "search": State(ids.URL, "search"),
            "options": [State(name, "options") for name in PICKERS],
            "values": [State(name, "value") for name in PICKERS],
        },
    )
    def offer_axes(
        revisions: Revisions | None, search: str | None, options: list[Any], values: list[Any]
    ) -> dict[str, Any]:
        chosen = dict(zip(PICKERS, values, strict=True))
        offered, wanted = axis_choices(
            points_of(shelf, revisions), chosen, Address.of(search, PICKERS)
        )
        return {
            "options": [no_update if offered == known else offered for known in options],
            "values": [
                no_update if wanted[name] == chosen[name] else wanted[name] for name in PICKERS
            ],
        }

    for graph, drawn, x, y, awaited in (
        (ids.FRONT, ids.FRONT_DRAWN, ids.X, ids.Y, State(ids.FRONT_DRAWN, "data")),
        (ids.OTHER, ids.OTHER_DRAWN, ids.OTHER_X, ids.OTHER_Y, Input(ids.FRONT_DRAWN, "data")),
    ):
        app.callback(
            output=(Output(graph, "figure"), Output(drawn, "data"), Output(graph, "style")),
            inputs={
                "asked": {
                    **{name: Input(*place) for name, place in _COMMON.items()},
                    "x": Input(x, "value"),
                    "y": Input(y, "value"),
                },
                "drawn": State(drawn, "data"),
                "brush": State(ids.BRUSH, "data"),
                "awaited": awaited,
            },
        )(_drawing(shelf, has_legend=graph == ids.FRONT))

    _register_brush(app, shelf)


def _drawing(shelf: RunShelf, *, has_legend: bool) -> Any:
    def draw(
        asked: dict[str, Any],
        drawn: dict[str, Any] | None,
        brush: dict[str, Any] | None,
        awaited: Any,  # noqa: ARG001  (the first picture comes first)
    ) -> tuple[Any, Any, Any]:
        if not all(asked[name] for name in ("revisions", "x", "y", "theme")):
            return no_update, no_update, no_update
        points = points_of(shelf, asked["revisions"])
        outline = Brush.of(brush)
        brushed = outline.plans(points) if outline else None
        picture, known = drawing(points, asked, drawn, brushed)
        if not isinstance(picture, go.Figure):
            return picture, known, no_update
        legend = _LEGEND_HEIGHT * len(points) if has_legend else 0
        return (
            picture.update_layout(showlegend=has_legend),
            known,
            height_of(_PLOT_HEIGHT + legend),
        )

    return draw


def _register_brush(app: Dash, shelf: RunShelf) -> None:
    in_browser(
        app,
        "brush",
        Output(ids.BRUSH, "data"),
        Input(ids.FRONT, "selectedData"),
        Input(ids.OTHER, "selectedData"),
        Input(ids.CLEAR_BRUSH, "n_clicks"),
        State(ids.SPLITS, "value"),
        *(State(name, "value") for name in (ids.X, ids.Y, ids.OTHER_X, ids.OTHER_Y)),
        State(ids.BRUSH, "data"),
    )

    @app.callback(
        output={
            ids.FRONT: Output(ids.FRONT, "figure", allow_duplicate=True),
            ids.OTHER: Output(ids.OTHER, "figure", allow_duplicate=True),
            "note": Output(ids.BRUSH_NOTE, "children"),
            "hides_button": Output(ids.CLEAR_BRUSH, "hidden"),
        },
        inputs={
            "brush": Input(ids.BRUSH, "data"),
            "common": {name: State(*place) for name, place in _COMMON.items()},
            "axes": {
                ids.FRONT: {"x": State(ids.X, "value"), "y": State(ids.Y, "value")},
                ids.OTHER: {"x": State(ids.OTHER_X, "value"), "y": State(ids.OTHER_Y, "value")},
            },
        },
        prevent_initial_call=True,
    )
    def mark(
        brush: dict[str, Any] | None, common: dict[str, Any], axes: dict[str, dict[str, str]]
    ) -> dict[str, Any]:
        points, drawn = points_of(shelf, common["revisions"]), Brush.of(brush)
        brushed = drawn.plans(points) if drawn else None
        pictures = {
            graph: brush_patch(points, common | own, brushed) for graph, own in axes.items()
        }
        if drawn:  # that picture marks what is inside by itself
            pictures[drawn.source] = no_update
        note = f"{len(brushed):,} plans inside the outline" if brushed is not None else ""
        return pictures | {"note": note, "hides_button": drawn is None}


def brush_patch(
    points: Sequence[FrontPoints], asked: Mapping[str, Any], brushed: Sequence[str] | None
) -> Any:
    """Return what changes on a picture if other plans are brushed.

    Args:
        points: Of the chosen runs.
        asked: What the page is at.
        brushed: Ids of the plans; `None`: all stand out again.
    """
    if not points or not asked["x"] or not asked["y"]:
        return no_update
    patch = Patch()
    figure = front_figure(points, _view(asked))
    _mark_brushed(figure, brushed)
    for place, trace in enumerate(figure.data):
        if trace.customdata is not None:
            patch["data"][place]["selectedpoints"] = trace.selectedpoints
    if brushed is None:
        patch["layout"]["selections"] = []
    return patch


def axis_choices(
    points: Sequence[FrontPoints], chosen: Mapping[str, str | None], address: Address
) -> tuple[list[dict[str, str]], dict[str, str | None]]:
    """Return what the choosers of axes offer, and what each is to be at.

    Args:
        points: Of the chosen runs.
        chosen: What each is at.
        address: Of the page; it decides for those that are at nothing.
    """
    if not points:
        return [], dict(chosen)
    dense, names = points[0].dense, axis_names(points)
    offered = [{"label": Axis.of(name, dense).label, "value": name} for name in names]
    cost = points[0].cost_names[0]
    usual = {
        ids.X: f"{cost}_x",
        ids.Y: "kl",
        ids.OTHER_X: "params_x" if cost == "size" else "size",
        ids.OTHER_Y: "perplexity",
    }
    orders = {n: (chosen[n], address.axes.get(n), usual.get(n)) for n in PICKERS}
    return offered, {
        name: next((axis for axis in order if axis in names), None)
        for name, order in orders.items()
    }


def drawing(
    points: Sequence[FrontPoints],
    asked: Mapping[str, Any],
    drawn: Mapping[str, Any] | None,
    brushed: Sequence[str] | None,
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
        return _patched(light, drawn["plans"], most_marks, brushed), no_update
    figure = front_figure(points, view)
    marks = sum(map(_is_mark, figure.data))
    figure.add_traces([go.Scatter(_NO_MARK)] * (most_marks - marks))
    _mark_brushed(figure, brushed)
    return figure, {"from": drawn_from, "plans": len(figure.data) - most_marks}


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
        best=answered["best"],
        selected=tuple(plan_id for _, plan_id in asked["selection"] or ()),
        shows_dominated=bool(asked["dominated"]),
        splits=cast("tuple[Split, ...]", tuple(asked["splits"] or ())),
        theme="dark" if asked["theme"] == "dark" else "light",
    )


def _patched(
    light: go.Figure, plans: int, most_marks: int, brushed: Sequence[str] | None
) -> Patch:
    """Return what changes on a picture whose plans stay: the marks, and the shapes.

    Args:
        light: The picture, of which plans may be missing.
        plans: Traces before the marks on the screen.
        most_marks: Traces that there are for marks.
        brushed: As in `drawing`.
    """
    _mark_brushed(light, brushed)
    marks = [trace.to_plotly_json() for trace in light.data if _is_mark(trace)]
    patch = Patch()
    for place, trace in enumerate([*marks, *[_NO_MARK] * (most_marks - len(marks))]):
        patch["data"][plans + place] = trace
    patch["layout"]["shapes"] = light.layout.to_plotly_json().get("shapes", [])
    return patch


def _mark_brushed(figure: go.Figure, brushed: Sequence[str] | None) -> None:
    """Let all plans stand back but those that are brushed."""
    if brushed is None:
        return
    for trace in figure.data:
        if trace.customdata is not None:
            is_inside = np.isin(trace.customdata[:, 1].astype(str), brushed)
            trace.selectedpoints = np.flatnonzero(is_inside).tolist()
