import numpy as np
import pytest

from planner.searchers.problem.single_sites import single_sites
from planner.searchers.published.knapsack import Knapsack
from tests.problems.plays import droppable, every_genome, layered, play, quadratic, two_costs
from tests.problems.toy_search import all_genomes, domain, kl

# the solver may stop within a ten-thousandth of the optimum
CLOSE = 1 + 1e-4


def test_it_scores_every_site_alone_and_then_the_answers_and_stops() -> None:
    space = domain(cost_floor=0.3)
    asked = play(Knapsack(space, 16), space, kl)
    assert len(asked) == 2
    assert (asked[0] == single_sites(space, 4)).all()
    assert 12 <= len(asked[1]) <= 17
    assert not {tuple(row) for row in asked[0]} & {tuple(row) for row in asked[1]}


def test_it_finds_the_optimum_at_each_budget_of_an_additive_problem() -> None:
    space = domain(cost_floor=0.3)
    found = np.concatenate(play(Knapsack(space, 16), space, kl))
    everything = all_genomes()
    for budget in np.linspace(0.3, 1.0, 17):
        truth = kl(everything[space.cost(everything) <= budget + 1e-9]).min()
        assert kl(found[space.cost(found) <= budget + 1e-9]).min() <= truth * CLOSE


@pytest.mark.parametrize("limit", [0.35, 0.517, 0.8])
def test_it_solves_the_one_budget_where_only_that_matters(limit: float) -> None:
    space = domain(cost_floor=0.3, limit=limit, only_budget=True)
    asked = play(Knapsack(space, 16), space, kl)
    assert asked[1].shape == (1, 8)
    assert space.affords(asked[1])[0]
    everything = all_genomes()
    assert kl(asked[1])[0] <= kl(everything[space.affords(everything)]).min() * CLOSE


def test_the_budget_is_among_those_of_a_front() -> None:
    space = domain(cost_floor=0.3, limit=0.517)
    found = play(Knapsack(space, 3), space, kl)[1]
    everything = all_genomes()
    best = kl(everything[space.affords(everything)]).min()
    assert kl(found[space.affords(found)]).min() <= best * CLOSE


@pytest.mark.parametrize("only_budget", [True, False])
def test_it_is_exact_under_two_budgets_at_once(only_budget: bool) -> None:
    space = two_costs(limits=(0.75, 0.5), only_budget=only_budget)
    sensitivity = quadratic(np.array([1.0, 2.0, 4.0, 3.0]), space)
    found = np.concatenate(play(Knapsack(space, 6), space, sensitivity))
    everything = every_genome(space)
    best = sensitivity(everything[space.affords(everything)]).min()
    assert sensitivity(found[space.affords(found)]).min() <= best * CLOSE


def test_a_budget_below_the_smallest_plan_gives_the_smallest() -> None:
    space = droppable([0.3, 0.3, 0.2], 0.2, limit=0.1, only_budget=True)
    asked = play(Knapsack(space, 4), space, quadratic(np.arange(3.0), space))
    assert asked[1].tolist() == [[0, 0, 0]]


def test_four_levels_of_a_site_are_looked_at() -> None:
    asked = Knapsack(layered(3, 0.5, width=20, heads=2), 4).ask().genomes
    assert len(asked) == 1 + 3 * (2 + 4)
