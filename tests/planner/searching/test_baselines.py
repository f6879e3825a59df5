"""Baselines on the toy domain, whose plans can be enumerated."""

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searching.baselines import baseline_genomes
from planner.searching.problem import Problem
from planner.settings.budget import Budget
from tests.problems import toy_search

PRIOR = tuple(
    weight * (1 - np.arange(toy_search.TOP + 1) / toy_search.TOP)
    for weight in (8.0, 1.0, 4.0, 0.5, 2.0, 0.3, 6.0, 1.5)
)


def prior_sensitivity(genomes: NDArray[np.int_]) -> NDArray[np.float64]:
    sensitivities = [table[genomes[:, site]] for site, table in enumerate(PRIOR)]
    return np.asarray(np.sum(sensitivities, axis=0))


def prepared(domain: Domain, *, surcharge: float = 0.0) -> Any:
    """Return a prepared model that knows costs only: the domain's, or higher ones."""

    def costs_of(genome: NDArray[np.int_]) -> Mapping[str, float]:
        share = float(domain.cost(genome[None])[0]) + surcharge
        return {name: share * amount for name, amount in toy_search.DENSE.items()}

    return SimpleNamespace(costs_of=costs_of)


def within(budget: str) -> Problem:
    return toy_search.PROBLEM.within(Budget.parse(budget))


@pytest.mark.parametrize("limit", [0.35, 0.5, 0.8])
def test_the_additive_plan_is_the_best_by_the_prior_within_the_budget(limit: float) -> None:
    domain = replace(toy_search.domain(limit=limit), sensitivity_tables=PRIOR)
    baselines = baseline_genomes(within(f"params<={limit}x,kl<=9"), prepared(domain), domain)
    assert list(baselines) == ["uniform", "additive"]
    every = toy_search.all_genomes()
    affordable = every[domain.affords(every)]
    (additive,) = prior_sensitivity(baselines["additive"][None])
    assert additive == pytest.approx(prior_sensitivity(affordable).min(), rel=1e-3)
    (uniform,) = prior_sensitivity(baselines["uniform"][None])
    assert additive < uniform
    assert domain.affords(np.stack(list(baselines.values()))).all()


def test_baselines_keep_to_the_exact_costs_where_the_domain_misses_them() -> None:
    domain = replace(toy_search.domain(limit=0.5), sensitivity_tables=PRIOR)
    dearer = prepared(domain, surcharge=0.01)
    baselines = baseline_genomes(within("params<=0.5x"), dearer, domain)
    for genome in baselines.values():
        assert dearer.costs_of(genome)["params"] <= 0.5 * toy_search.DENSE["params"] + 1e-6
    nothing = baseline_genomes(within("params<=0.5x"), prepared(domain, surcharge=1.0), domain)
    assert nothing == {}


def test_without_a_prior_there_is_no_additive_plan() -> None:
    domain = toy_search.domain(limit=0.5)
    baselines = baseline_genomes(within("params<=0.5x"), prepared(domain), domain)
    assert list(baselines) == ["uniform"]
