"""The two pictures of plans: their axes, what they are drawn from, and the brush over both."""

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from dash import Dash, Input, Output, State, no_update

from planner.browse import ids
from planner.browse.address import Address
from planner.browse.brush import Brush, Inside
from planner.browse.callbacks.in_browser import in_browser
from planner.browse.callbacks.run_callbacks import Revisions, points_of
from planner.browse.drawing import brush_patch, drawing, unpacked
from planner.browse.elements import height_of
from planner.browse.run_shelf import RunShelf
from planner.figures.figure_axes import Axis, axis_names
from planner.figures.front_points import FrontPoints

PICKERS = (ids.X, ids.Y, ids.COLOUR, ids.OTHER_X, ids.OTHER_Y)
_PLOT_HEIGHT, _LEGEND_HEIGHT = 380, 100
"""Pixels; of a legend for each run."""
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

    for graph, drawn, x, y, seen in (
        (ids.FRONT, ids.FRONT_DRAWN, ids.X, ids.Y, State(ids.FRONT_SEEN, "data")),
        (ids.OTHER, ids.OTHER_DRAWN, ids.OTHER_X, ids.OTHER_Y, Input(ids.FRONT_SEEN, "data")),
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
                "seen": seen,
            },
        )(_drawing(shelf, has_legend=graph == ids.FRONT))

    _register_brush(app, shelf)


def _drawing(shelf: RunShelf, *, has_legend: bool) -> Any:
    def draw(
        asked: dict[str, Any],
        drawn: list[Any] | None,
        brush: dict[str, Any] | None,
        seen: Any,  # noqa: ARG001  (the first picture comes first)
    ) -> tuple[Any, Any, Any]:
        if not all(asked[name] for name in ("revisions", "x", "y", "theme")):
            return no_update, no_update, no_update
        points = points_of(shelf, asked["revisions"])
        outline = Brush.of(brush)
        brushed = outline.inside(points) if outline else None
        return picture_parts(points, asked, drawn, brushed, has_legend=has_legend)

    return draw


def picture_parts(
    points: Sequence[FrontPoints],
    asked: Mapping[str, Any],
    drawn: list[Any] | None = None,
    brushed: Inside | None = None,
    *,
    has_legend: bool = True,
) -> tuple[Any, Any, Any]:
    """Return a picture of plans as `drawing` does, and its height as a style."""
    picture, known = drawing(points, asked, drawn, brushed)
    if not isinstance(picture, go.Figure):
        return picture, known, no_update
    legend = _LEGEND_HEIGHT * len(points) if has_legend else 0
    picture.update_layout(showlegend=has_legend)
    return unpacked(picture), known, height_of(_PLOT_HEIGHT + legend)


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
    )
    def mark(
        brush: dict[str, Any] | None, common: dict[str, Any], axes: dict[str, dict[str, str]]
    ) -> dict[str, Any]:
        points, drawn = points_of(shelf, common["revisions"]), Brush.of(brush)
        brushed = drawn.inside(points) if drawn else None
        pictures = {
            # that in which it was drawn marks what is inside by itself
            graph: no_update
            if drawn and drawn.source == graph
            else brush_patch(points, common | own, brushed)
            for graph, own in axes.items()
        }
        note = ""
        if brushed is not None:
            count = sum(int(each.sum()) for each in brushed.values())
            note = f"{count:,} plans inside the outline"
        return pictures | {"note": note, "hides_button": drawn is None}


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
    offered = [{"label": Axis.of(name, dense).brief_label, "value": name} for name in names]
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
