"""A brush holds the plans inside its outline, drawn or not."""

from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import pytest
from dash import Dash
from numpy.typing import NDArray

from planner.browse.brush import Brush
from planner.browse.drawing import brush_patch, drawing
from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import PlanTable
from planner.browse.table.row_request import RowRequest
from planner.figures.front_points import FrontPoints
from tests.planner.browse.pages import ASKED, ask

AXES: dict[str, Any] = {"x": "params_x", "y": "kl", "splits": ["search"], "source": "front"}


@pytest.fixture
def points(shelf: RunShelf) -> FrontPoints:
    found = shelf.look("first").points
    assert found is not None
    return found


def box(left: float, right: float, low: float, high: float) -> dict[str, Any]:
    corners = {"xs": [left, right, right, left], "ys": [low, low, high, high]}
    return AXES | corners


def brushed(points: FrontPoints, stored: dict[str, Any]) -> set[str]:
    brush = Brush.of(stored)
    assert brush is not None
    return set(points.frame["plan_id"][brush.inside([points])[points.name]])


def between(values: NDArray[np.float64], share: float) -> float:
    """Return a place at which no plan is, with a share of them below."""
    known = np.unique(values[np.isfinite(values)])
    place = int(share * (len(known) - 1))
    return float(known[place] + known[place + 1]) / 2


def test_a_box_holds_what_is_inside(points: FrontPoints) -> None:
    x, y = points.values("params_x"), points.values("kl")
    left, right, high = between(x, 0.2), between(x, 0.7), between(y, 0.5)
    inside = (x > left) & (x < right) & (y < high)
    assert inside.any()
    assert brushed(points, box(left, right, -1, high)) == set(points.frame["plan_id"][inside])
    # however it was drawn
    assert brushed(points, box(right, left, high, -1)) == set(points.frame["plan_id"][inside])


def test_a_lasso_holds_what_is_inside(points: FrontPoints) -> None:
    x, y = points.values("params_x"), points.values("kl")
    low, high = float(x.min()) - 0.01, float(x.max()) + 0.01
    top = float(np.nanmax(y)) + 1
    below = {**AXES, "xs": [low, high, high], "ys": [-0.001, -0.001, top]}
    line = -0.001 + (x - low) / (high - low) * (top + 0.001)
    assert brushed(points, below) == set(points.frame["plan_id"][y < line])


def test_each_text_that_is_shown_counts(points: FrontPoints) -> None:
    held_out = points.values("holdout_kl")
    at = int(np.nanargmax(held_out))
    value, share = held_out[at], points.values("params_x")[at]
    around = box(share - 1e-6, share + 1e-6, value - 1e-9, value + 1e-9)
    assert brushed(points, around) == set()
    assert brushed(points, around | {"splits": ["holdout"]}) == {points.frame["plan_id"][at]}


def test_amounts_are_those_of_the_axis(points: FrontPoints) -> None:
    everything = box(0, 1e9, 0, 1e9) | {"x": "size"}
    known = np.isfinite(points.values("kl"))
    assert brushed(points, everything) == set(points.frame["plan_id"][known])
    assert points.values("size").max() > 1e3  # in bytes; the axis counts kilobytes
    assert brushed(points, box(0, 1, 0, 1e9) | {"x": "size"}) == set()


def test_no_outline_is_no_brush() -> None:
    assert Brush.of(None) is None
    assert Brush.of({}) is None


def marked(patch: Any, figure: go.Figure) -> set[tuple[str, str]]:
    """Return the run and the id of each plan that stands out."""
    return {
        tuple(figure.data[operation["location"][1]].customdata[place])
        for operation in patch._operations
        for place in operation["params"]["value"]
    }


def test_the_other_picture_marks_the_same_plans(points: FrontPoints) -> None:
    is_inside = np.isin(np.arange(len(points.frame)), [0, 2])
    asked = ASKED | {"revisions": [["first", "1"]]}
    figure, _ = drawing([points], asked, None, None)
    chosen = {("first", plan_id) for plan_id in points.frame["plan_id"][is_inside]}
    assert marked(brush_patch([points], asked, {"first": is_inside}), figure) == chosen
    cleared = brush_patch([points], asked, None)._operations
    assert {each["params"]["value"] for each in cleared[:-1]} == {None}
    assert cleared[-1]["location"] == ["layout", "selections"]


def test_a_brush_is_told_of(app: Dash, points: FrontPoints) -> None:
    values: dict[str, Any] = {
        "revisions.data": [["first", str(points.revision)]],
        "theme-now.data": "light",
        "splits.value": ["search"],
        **{f"{name}.value": axis for name, axis in (("x", "params_x"), ("y", "kl"))},
        **{f"other-{name}.value": axis for name, axis in (("x", "size"), ("y", "kl"))},
        "brush.data": box(0, 2, -1, 1e9),
    }
    told = ask(app, "brush-note.children", values, "brush.data")
    known = int(np.isfinite(points.values("kl")).sum())
    assert told["brush-note"]["children"] == f"{known} plans inside the outline"
    assert told["clear-brush"]["hidden"] is False
    assert set(told) == {"other", "brush-note", "clear-brush"}
    told = ask(app, "brush-note.children", values | {"brush.data": None}, "brush.data")
    assert told["clear-brush"]["hidden"] is True
    assert {"front", "other"} <= set(told)
    values |= {"shown-plans.value": "front"}
    told = ask(app, "plan-count.children", values, "plans.getRowsRequest")
    assert told["plans"]["getRowsResponse"]["rowCount"] == known


def test_runs_that_share_ids_are_told_apart(points: FrontPoints) -> None:
    """The same plan in two runs, scored elsewhere in one: an outline holds one of them."""
    frame = points.frame.assign(kl=points.frame["kl"] + 10)
    other = replace(points, name="other", frame=frame)
    brush = Brush.of(box(-1, 2, -1, 9.9))
    assert brush is not None
    inside = brush.inside([points, other])
    assert inside["first"].any()
    assert not inside["other"].any()
    asked = ASKED | {"revisions": [["first", "1"], ["other", "1"]]}
    figure, _ = drawing([points, other], asked, None, None)
    told = marked(brush_patch([points, other], asked, inside), figure)
    assert {run for run, _ in told} == {"first"}
    table = PlanTable([points, other], shows_all=True, brushed=inside)
    rows = table.rows(table.found(RowRequest()))
    assert {row["run"] for row in rows} == {"first"}
    assert len(rows) == inside["first"].sum()
