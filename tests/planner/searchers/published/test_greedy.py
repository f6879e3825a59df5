import numpy as np
import pytest

from planner.searchers.protocol import Floats, Genomes
from planner.searchers.published.greedy import Greedy
from tests.problems.plays import best_within, droppable, layered, play, quadratic, two_costs
from tests.problems.toy_search import all_genomes, domain, kl


def test_the_order_on_an_additive_problem_is_that_of_sensitivity() -> None:
    space = droppable([0.2, 0.2, 0.2, 0.2], 0.4)
    asked = play(Greedy(space), space, quadratic(np.array([3.0, 1.0, 4.0, 2.0]), space))
    # dense and all single removals; then the best one kept; then done: all three are known
    assert asked[0].tolist() == [
        [1, 1, 1, 1], [0, 1, 1, 1], [1, 0, 1, 1], [1, 1, 0, 1], [1, 1, 1, 0],
    ]  # fmt: skip
    assert asked[1].tolist() == [[0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 1, 0]]
    assert asked[2].tolist() == [[0, 0, 1, 0], [1, 0, 0, 0]]
    assert len(asked) == 3


def test_sensitivity_is_weighed_by_what_is_saved() -> None:
    space = droppable([0.1, 0.4], 0.6)
    asked = play(Greedy(space), space, quadratic(np.array([1.0, 2.0]), space))
    # the second is worse but saves four times as much, and is enough alone
    assert len(asked) == 1
    asked = play(Greedy(space), space, quadratic(np.array([1.0, 8.0]), space))
    assert asked[1].tolist() == [[0, 0]]


def test_removals_are_judged_together_with_those_made_before() -> None:
    space = droppable([0.2, 0.2, 0.2], 0.6)

    def redundant(genomes: Genomes) -> Floats:
        """Either of the first two sites can be dropped, and not both."""
        dropped = 1 - genomes
        interaction = 10.0 * dropped[:, 0] * dropped[:, 1]
        return np.asarray(dropped @ np.array([1.0, 1.1, 2.0]) + interaction)

    asked = play(Greedy(space), space, redundant)
    assert best_within(asked, space, redundant, 0.6).tolist() == [0, 1, 0]


def test_sites_without_levels_between_are_dropped_one_at_a_time_however_small() -> None:
    space = droppable([0.02] * 40, 0.4)
    asked = play(Greedy(space), space, quadratic(np.arange(40.0), space))
    assert [len(batch) for batch in asked] == [41, *range(39, 10, -1)]


def test_sites_of_many_levels_go_down_in_about_twenty_rounds_and_end_on_the_budget() -> None:
    space = layered(15, 0.5, limit=0.55, width=30)
    weights = np.random.default_rng(0).lognormal(size=30)
    kl = quadratic(weights, space)
    asked = play(Greedy(space), space, kl)
    assert 16 <= len(asked) <= 24
    plan = best_within(asked, space, kl, 0.55)
    finest_step = 0.6 / 15 / 30
    assert float(space.cost(plan)) > 0.55 - finest_step
    found, even = kl(np.array([plan, space.uniform_within()]))
    assert found < 0.9 * even


def test_it_is_within_a_tenth_of_the_best_on_an_additive_problem() -> None:
    space = domain(cost_floor=0.45, limit=0.5, only_budget=True)
    found = np.concatenate(play(Greedy(space), space, kl))
    within = found[space.affords(found)]
    everything = all_genomes()
    best = kl(everything[space.affords(everything)]).min()
    assert kl(within).min() <= 1.1 * best


def test_a_front_goes_on_to_the_floor_and_a_budget_does_not() -> None:
    lowest = {}
    for only_budget in (False, True):
        space = domain(cost_floor=0.3, limit=0.5, only_budget=only_budget)
        lowest[only_budget] = space.cost(np.concatenate(play(Greedy(space), space, kl))).min()
    assert lowest[False] == pytest.approx(0.3, abs=0.02)
    assert lowest[True] == pytest.approx(0.5, abs=0.02)


def test_it_ends_within_the_budget_in_two_costs() -> None:
    space = two_costs(limits=(0.75, 0.5), only_budget=True)
    asked = play(Greedy(space), space, quadratic(np.array([1.0, 2.0, 3.0, 4.0]), space))
    genomes = np.concatenate(asked)
    # a quarter of the first cost and half of the second, and not a level more
    costs = space.all_costs(genomes[space.affords(genomes)])
    assert len(costs)
    assert costs == pytest.approx(np.broadcast_to([0.75, 0.5], costs.shape))


@pytest.mark.parametrize("limit", [1.0, 0.1])
def test_budgets_that_are_met_at_once_or_never(limit: float) -> None:
    space = droppable([0.4, 0.4], 0.2, limit=limit, only_budget=True)
    asked = play(Greedy(space), space, quadratic(np.array([1.0, 2.0]), space))
    if limit == 1.0:
        assert [batch.tolist() for batch in asked] == [[[1, 1]]]
    else:
        assert asked[-1].tolist() == [[0, 0]]
