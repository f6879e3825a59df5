"""What a search is asked, from its settings and the costs of a model."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from planner.searching.problem import Problem
from planner.settings.budget import Budget
from planner.settings.search import SearchSettings
from search_spaces.errors import BudgetError
from tests.problems import toy_search

DENSE = {"params": 100.0, "size": 200.0, "macs": 50.0, "kv": 8.0, "nonzero": 100.0}
SMALLEST = {"params": 20.0, "size": 40.0, "macs": 10.0, "kv": 0.0, "nonzero": 10.0}


def problem(**values: Any) -> Problem:
    prepared: Any = SimpleNamespace(
        dense=SimpleNamespace(costs=SimpleNamespace(dense=lambda: DENSE)),
        smallest_costs=lambda: SMALLEST,
    )
    return Problem.of(SearchSettings.checked(model="m", **values), prepared)


def test_costs_are_those_that_the_budget_limits_in_its_order() -> None:
    asked = problem(budget="kl<=1,size<=100,params<=0.6x")
    assert asked.cost_names == ("size", "params")
    assert asked.limits == {"size": 0.5, "params": 0.6}


@pytest.mark.parametrize("budget", [None, "kl<=0.1"])
def test_without_a_limit_on_a_cost_parameters_are_minimised(budget: str | None) -> None:
    assert problem(budget=budget).cost_names == ("params",)
    sparse = problem(budget=budget, space="heads,2:4")
    assert sparse.cost_names == ("nonzero",)
    assert sparse.limits == {"nonzero": None}
    assert sparse.floor == 0.1  # the smallest plan


def test_a_front_goes_a_quarter_beyond_its_budget_and_a_budget_just_beyond() -> None:
    assert problem(budget="params<=0.6x").floor == pytest.approx(0.6 - 0.25 * 0.4)
    assert problem(budget="params<=0.6x", focus="budget").floor == pytest.approx(0.58)
    assert problem(budget="params<=0.22x").floor == 0.2


def test_only_where_the_budget_alone_matters_is_everything_else_worthless() -> None:
    assert problem(budget="params<=0.6x").allowed == ()
    asked = problem(budget="params<=0.6x,size<=0.9x", focus="budget")
    assert asked.allowed == (0.6, 0.9)
    assert asked.within(Budget.parse("size<=0.5x")).allowed == (math.inf, 0.5)


def test_a_budget_that_no_plan_meets_is_refused() -> None:
    with pytest.raises(BudgetError, match=r"`params<=0.1x` cannot be met: .* has params 0.2x"):
        problem(budget="params<=0.1x")


def test_a_domain_reaches_down_to_the_plans_within_all_limits() -> None:
    asked = toy_search.PROBLEM.within(Budget.parse("params<=0.5x"))

    def make_domain(limits: Any, floor: float, *, only_budget: bool) -> Any:
        return toy_search.domain(floor, limits["params"], only_budget=only_budget)

    prepared: Any = SimpleNamespace(make_domain=make_domain)
    domain = asked.domain(prepared)
    assert (domain.cost_floor, domain.costs[0].limit, domain.only_budget) == (0.375, 0.5, False)
