"""``run.plot()`` in a notebook."""

import math
import sys

import pytest

from planner.run import Run
from search_spaces.errors import BudgetError, MissingExtraError, SettingsError
from tests.problems.toy_run import FRONT


def test_a_run_plots_its_front(toy: Run) -> None:
    figure = toy.plot()
    assert figure.layout.xaxis.title.text == "parameters, as a share of the dense model's"
    names = {each.name for each in (*figure.data, *figure.layout.shapes)}
    assert {"front, search text ± 2 s.e.", "dense model", "knee"} <= names
    assert "best within the budget" not in names


def test_a_budget_marks_the_best_plan_within_it(toy: Run) -> None:
    figure = toy.plot("params<=0.7x", x="size", y="perplexity", colour="kl")
    marks = {mark.name: mark for mark in figure.layout.shapes}
    plan = toy.plan(FRONT[1])
    assert marks["best within the budget"].yanchor == pytest.approx(
        math.exp(plan.evaluation.quality["nll"].value)
    )
    assert figure.layout.xaxis.title.text == "weights on disk"
    assert "within the budget" not in marks  # neither axis is limited


def test_what_cannot_be_shown_is_refused(toy: Run) -> None:
    with pytest.raises(BudgetError, match="no plan of this run meets"):
        toy.plot("params<=0.7x,kl<=0.01")
    with pytest.raises(SettingsError, match="did you mean `params`"):
        toy.plot(x="parms")


def test_without_plotly_the_extra_is_named(toy: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "plotly.graph_objects", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'compression-planner\[browse\]'"):
        toy.plot()
