"""The table of plans: what it lists, page by page, and as CSV."""

import csv
import json
from dataclasses import replace
from io import StringIO
from typing import Any

import numpy as np
import pytest
from dash import Dash

from planner.browse.run_shelf import RunShelf
from planner.browse.table.plan_rows import PlanTable, table_columns
from planner.browse.table.row_request import RowRequest
from planner.figures.front_points import FrontPoints
from planner.run import Run
from tests.planner.browse.pages import ask

RUNS = ("first", "inner/second")


@pytest.fixture
def points(shelf: RunShelf) -> list[FrontPoints]:
    return [points for look in shelf.looks(RUNS) if (points := look.points) is not None]


def rows_of(table: PlanTable) -> list[dict[str, Any]]:
    return table.rows(table.found(RowRequest()))


def test_the_table_lists_the_front_or_all_or_what_is_brushed(
    shelf: RunShelf, points: list[FrontPoints]
) -> None:
    with Run.open(shelf.folder / "first") as run:
        front = [plan.plan_id for plan in run.front_plans()]
        baselines = {plan.plan_id for plan in run.baselines().values()}
        known = len({e.plan_id for e in run.landed()})
    rows = rows_of(PlanTable(points[:1], shows_all=False, brushed=None))
    assert {row["plan"] for row in rows} == {*front, *baselines}
    assert rows[0]["params_x"] == max(row["params_x"] for row in rows[: len(front)])
    assert len(rows_of(PlanTable(points, shows_all=True, brushed=None))) == 2 * known
    inside = {each.name: np.isin(each.frame["plan_id"], front[:2]) for each in points}
    brushed = rows_of(PlanTable(points, shows_all=False, brushed=inside))
    assert {(row["run"], row["plan"]) for row in brushed} == {
        (name, plan) for name in RUNS for plan in front[:2]
    }
    json.dumps(rows, allow_nan=False)
    fields = [column["field"] for column in table_columns(points)]
    assert set(fields) <= {*rows[0], "run"}
    assert len(fields) == len(set(fields))
    assert "run" not in [column["field"] for column in table_columns(points[:1])]


def test_a_plan_is_said_to_be_what_the_run_says(
    shelf: RunShelf, points: list[FrontPoints]
) -> None:
    rows = rows_of(PlanTable(points[:1], shows_all=True, brushed=None))
    with Run.open(shelf.folder / "first") as run:
        for row in rows:
            assert row["what"].endswith(" · ".join(run.roles(row["plan"])))


def test_a_page_is_sent_and_no_more(app: Dash, points: list[FrontPoints]) -> None:
    values: dict[str, Any] = {
        "revisions.data": [[each.name, str(each.revision)] for each in points],
        "shown-plans.value": "all",
        "plans.getRowsRequest": {
            "startRow": 2,
            "endRow": 5,
            "sortModel": [{"colId": "kl", "sort": "desc"}],
            "filterModel": {"run": {"type": "equals", "filter": "inner/second"}},
        },
    }
    told = ask(app, "plan-count.children", values, "plans.getRowsRequest")
    answer = told["plans"]["getRowsResponse"]
    second = points[1]
    kl = np.sort(second.values("kl")[np.isfinite(second.values("kl"))])[::-1]
    assert [row["kl"] for row in answer["rowData"]] == pytest.approx(kl[2:5], rel=1e-5)
    assert {row["run"] for row in answer["rowData"]} == {"inner/second"}
    assert answer["rowCount"] == len(second.frame)
    total = sum(len(each.frame) for each in points)
    assert told["plan-count"]["children"] == f"{len(second.frame):,} of {total:,}"


def test_all_that_pass_the_filters_are_downloaded(app: Dash, points: list[FrontPoints]) -> None:
    values: dict[str, Any] = {
        "revisions.data": [[points[0].name, str(points[0].revision)]],
        "shown-plans.value": "all",
        "plans.getRowsRequest": {
            "startRow": 0,
            "endRow": 1,
            "filterModel": {"what": {"type": "contains", "filter": "front"}},
        },
    }
    file = ask(app, "csv-file.data", values, "csv.n_clicks")["csv-file"]["data"]
    assert file["filename"] == "plans.csv"
    rows = list(csv.DictReader(StringIO(file["content"])))
    front = points[0].rows_of_kind("front")
    assert {row["plan"] for row in rows} == set(points[0].frame["plan_id"].iloc[front])


def test_no_name_of_a_run_is_a_formula_in_a_spreadsheet(points: list[FrontPoints]) -> None:
    named = [replace(points[0], name="=cmd()"), points[1]]
    table = PlanTable(named, shows_all=True, brushed=None)
    rows = list(csv.DictReader(StringIO(table.csv(np.arange(1)))))
    assert rows[0]["run"] == "'=cmd()"


def test_no_word_of_a_heading_is_broken(points: list[FrontPoints]) -> None:
    columns = {column["headerName"]: column["width"] for column in table_columns(points)}
    (longest,) = (width for name, width in columns.items() if "multiply–accumulates" in name)
    assert longest > 8 * len("multiply–accumulates")
    assert min(columns.values()) < longest
