"""Plans with recovered weights are points, marks and rows beside those that they are of."""

import pytest

from planner.browse.callbacks.run_callbacks import state_line
from planner.browse.run_shelf import Look
from planner.browse.table.plan_rows import PlanTable
from planner.browse.table.row_request import RowRequest
from planner.figures.front_figure import front_figure
from planner.figures.front_points import FrontPoints
from planner.figures.front_view import FrontView
from planner.reports.run_report.report_content import report_content
from planner.run import Run
from planner.runs.records import Recovered
from tests.problems.toy_run import FRONT
from tests.problems.toy_search import rescored, score_of

NAME = f"{FRONT[1]}+refit"


@pytest.fixture
def recovered(toy_copy: Run) -> Run:
    """The toy run with one plan that was refitted, and one whose refitting helped nothing."""
    searched = {"kl": (0.1, 0.01), "nll": (3.0, 0.1), "agreement": (0.9, 0.01)}
    helped = Recovered(
        search=score_of(searched).quality,
        fresh=rescored(0.11),
        holdout=rescored(0.12),
        tokens=1000,
        seconds=2,
    )
    toy_copy.record_recovery(FRONT[1], "refit", helped)
    failed = Recovered(tokens=1000, seconds=2, failure="it helped nothing: …")
    toy_copy.record_recovery(FRONT[2], "refit", failed)
    return toy_copy


def test_a_variant_is_a_point_of_its_own_that_comes_and_goes(toy: Run, recovered: Run) -> None:
    points = FrontPoints.of(recovered, "toy")
    assert list(points.frame["plan_id"][points.rows_of_kind("recovered")]) == [NAME]
    look = Look(name="toy", status=recovered.status, points=points)
    assert f"{len(recovered.landed())} plans scored" in str(state_line(look))
    before = FrontPoints.of(toy, "toy")
    news = before.updated(recovered)
    assert set(news.frame["plan_id"]) - set(before.frame["plan_id"]) == {NAME}
    recovered.record_recovery(FRONT[1], "refit", Recovered(failure="no longer"))
    assert NAME not in set(news.updated(recovered).frame["plan_id"])


def test_a_variant_is_marked_on_the_plot(recovered: Run) -> None:
    figure = front_figure([FrontPoints.of(recovered, "toy")], FrontView(x="params_x"))
    marks = {t.name: t for t in figure.data if str(t.name).startswith("recovered weights")}
    texts = {"search text": 0.1, "fresh text": 0.11, "held-out text": 0.12}
    assert {name.partition(", ")[2]: list(trace.y) for name, trace in marks.items()} == {
        text: [kl] for text, kl in texts.items()
    }
    assert all(list(trace.x) == pytest.approx([0.6]) for trace in marks.values())
    assert list(marks["recovered weights, search text"].customdata[0]) == ["toy", NAME]


def test_a_variant_is_a_row_of_the_table_below_its_plan(recovered: Run) -> None:
    table = PlanTable([FrontPoints.of(recovered, "toy")], shows_all=False, brushed=None)
    rows = {row["plan"]: row for row in table.rows(table.found(RowRequest()))}
    assert rows[NAME]["what"] == "recovered weights"
    assert rows[NAME]["params"] == rows[FRONT[1]]["params"]
    assert list(recovered.front()["plan_id"]) == [FRONT[0], FRONT[1], NAME, FRONT[2]]
    assert list(recovered.front("kl<=0.12")["plan_id"]) == [FRONT[0], NAME]


def test_a_report_says_what_recoveries_came_to(recovered: Run) -> None:
    notes = " ".join(report_content(recovered).notes)
    assert f"{NAME}, output projections solved again on 1,000 tokens in 2 s: KL 0.120" in notes
    assert "helped nothing" in notes
