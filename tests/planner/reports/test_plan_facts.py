"""What is told of a plan, on a page and in a terminal: the same costs and scores."""

import math
from dataclasses import replace

import pytest

from planner.browse.plan_details import details_of
from planner.reports.plan_facts import cost_rows, score_rows
from planner.reports.plan_text import plan_text
from planner.run import Run
from tests.problems.toy_run import FRONT


def test_each_score_is_in_its_unit_with_its_error(toy: Run) -> None:
    plan = toy.plan(FRONT[0])
    kl, nll, agreement = score_rows(plan)
    assert kl.cells == {text: str(found["kl"]) for text, found in plan.quality.items()}
    loss = plan.quality["fresh"]["nll"]
    error = math.exp(loss.value) * loss.standard_error
    assert nll.cells["fresh"] == f"{math.exp(loss.value):.2f} ± {error:.2f}"
    assert agreement.cells["fresh"] == "20.0% ± 1.0%"


def test_what_was_not_measured_has_no_figure(toy: Run) -> None:
    (partial,) = (found.plan_id for found in toy.landed() if found.score.windows == 1)
    assert [{*row.cells} for row in score_rows(toy.plan(partial))] == [{"search"}] * 3


def test_costs_that_count_zeros_are_told_only_if_some_weights_are_zero(
    toy: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = toy.plan(FRONT[0])
    assert [row.metric.name for row in cost_rows(plan)] == ["params", "size", "bits", "macs", "kv"]
    monkeypatch.setattr(type(toy), "dense", {**toy.dense, "nonzero": 1000.0})
    costs = plan.evaluation.costs
    for zeros, is_told in ((0.0, False), (1.0, True)):
        found = {**costs, "nonzero": costs["params"] - zeros}
        plan.evaluation = replace(plan.evaluation, costs=found)
        assert ("nonzero" in [row.metric.name for row in cost_rows(plan)]) == is_told


def test_page_and_terminal_tell_the_same(toy: Run) -> None:
    details = details_of(toy, FRONT[1], toy.folder)
    text = plan_text(toy.plan(FRONT[1])).plain
    figures = [cell for row in details.scores for cell in row[1:]]
    figures += [cell for _, amount, share in details.costs for cell in (amount, share[:-1])]
    assert len(figures) == 3 * 3 + 5 * 2
    assert [figure for figure in figures if figure not in text] == []


def test_where_there_is_little_room_scores_stay_side_by_side_without_labels(toy: Run) -> None:
    plan = toy.plan(FRONT[0])
    wide, narrow = plan_text(plan).plain, plan_text(plan, width=80).plain
    label = "most probable token as in the dense model"
    assert label in wide
    assert label not in narrow
    (line,) = [line for line in narrow.splitlines() if line.startswith("agreement")]
    assert line.count("±") == 3
