"""What the page's own scripts never ask for is refused in a sentence, and is no error of ours."""

from typing import Any

import pytest
from dash import Dash

from tests.planner.browse.pages import post

OUTLINE = {"source": "front", "x": "params_x", "y": "kl", "splits": [], "xs": [1.0], "ys": [1.0]}


@pytest.mark.parametrize(
    ("output", "values"),
    [
        ("answer.children", {"revisions.data": [[None, "1"]]}),
        ("answer.children", {"budget.value": 5}),
        ("runs.options", {"runs.value": [None]}),
        ("plan-title.children", {"selection.data": [["first", None]]}),
        ("brush-note.children", {"brush.data": {"source": "front"}}),
        ("brush-note.children", {"brush.data": OUTLINE | {"ys": [1.0, 2.0]}}),
        ("brush-note.children", {"splits.value": ["nonsense"]}),
        ("front.clickData", {"front.clickData": {"points": []}}),
        ("plan-count.children", {"plans.getRowsRequest": {"startRow": -5}}),
    ],
)
def test_a_value_of_another_kind_is_refused(
    app: Dash, output: str, values: dict[str, Any]
) -> None:
    answer = post(app, output, values, next(iter(values)))
    said = answer.get_data(as_text=True)
    assert answer.status_code == 400
    assert next(iter(values)) in said
    assert len(said) < 300


def test_an_axis_that_there_is_not_is_refused(app: Dash) -> None:
    values = {"brush.data": OUTLINE | {"x": "nonsense"}, "revisions.data": [["first", "1"]]}
    answer = post(app, "brush-note.children", values, "brush.data")
    assert answer.status_code == 400
    assert answer.get_data(as_text=True).startswith("an axis must be a cost or a quality")


@pytest.mark.parametrize("body", [5, [], {}, {"output": "x"}, {"output": "x", "inputs": [5]}])
def test_a_question_that_is_none_is_refused(app: Dash, body: Any) -> None:
    answer = app.server.test_client().post("/_dash-update-component", json=body)
    assert answer.status_code == 400


@pytest.mark.parametrize("path", ["dash/../x", "nonsense/x.js", "dash_ag_grid/none.js"])
def test_a_part_that_there_is_not_is_missing(app: Dash, path: str) -> None:
    answer = app.server.test_client().get(f"/_dash-component-suites/{path}")
    assert answer.status_code == 404
