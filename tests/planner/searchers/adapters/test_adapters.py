"""What greedy, MultiPruner, Bonsai and knapsack share."""

import numpy as np
import pytest

from planner.searchers import SearcherName
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Genomes
from tests.problems.costs import summed
from tests.problems.plays import every_genome, play, quadratic, two_costs
from tests.problems.toy_search import domain, kl, made

NAMES: tuple[SearcherName, ...] = ("greedy", "multipruner", "bonsai", "knapsack")


def asked(name: SearcherName, space: Domain) -> list[Genomes]:
    weights = np.arange(1.0, len(space.top_levels) + 1)
    sensitivity = kl if len(weights) == 8 else quadratic(weights, space)
    return play(made(name, space, 16, 0), space, sensitivity)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("only_budget", [True, False])
def test_genomes_are_levels_asked_once_from_dense_to_the_target(
    name: SearcherName, only_budget: bool
) -> None:
    space = domain(cost_floor=0.4, limit=0.5, only_budget=only_budget)
    batches = asked(name, space)
    genomes = np.concatenate(batches)
    assert np.issubdtype(genomes.dtype, np.integer)
    assert (genomes >= 0).all()
    assert (genomes <= 3).all()
    assert len(np.unique(genomes, axis=0)) == len(genomes)
    assert (batches[0][0] == 3).all()
    target = 0.5 if only_budget or name == "multipruner" else 0.4
    # the largest level is 0.05
    assert target - 0.05 < space.cost(genomes).min() <= target + 1e-9
    assert space.affords(genomes).any()


@pytest.mark.parametrize("name", NAMES)
def test_all_is_scored_alike_on_all_text(name: SearcherName) -> None:
    ask = made(name, domain(), 16, 0).ask()
    assert not ask.racing
    assert (ask.rungs, ask.windows, ask.gradients, ask.counted) == (None, (), False, True)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_again(name: SearcherName) -> None:
    for first, second in zip(asked(name, domain()), asked(name, domain()), strict=True):
        assert (first == second).all()


@pytest.mark.parametrize("name", NAMES)
def test_a_tiny_domain_runs_out(name: SearcherName) -> None:
    space = Domain(
        top_levels=np.array([2, 2]),
        costs=(summed((np.array([0.0, 0.2, 0.4]), np.array([0.0, 0.1, 0.4])), fixed=0.2),),
        cost_floor=0.2,
    )
    genomes = np.concatenate(asked(name, space))
    assert len(np.unique(genomes, axis=0)) == len(genomes) <= 9
    assert [0, 0] in genomes.tolist()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("limits", [(0.5, 0.25), (None, 0.5), (1.0, 0.5), (None, None)])
@pytest.mark.parametrize("only_budget", [True, False])
def test_budgets_of_two_costs_are_met(
    name: SearcherName, limits: tuple[float | None, float | None], only_budget: bool
) -> None:
    space = two_costs(limits=limits, only_budget=only_budget)
    genomes = np.concatenate(asked(name, space))
    assert space.affords(genomes).any()
    assert len(genomes) < len(every_genome(space))


@pytest.mark.parametrize("name", NAMES)
def test_a_site_that_costs_nothing_is_left_alone(name: SearcherName) -> None:
    space = Domain(
        top_levels=np.array([2, 2, 2]),
        costs=(summed((np.zeros(3), *(np.array([0.0, 0.2, 0.4]),) * 2), fixed=0.2),),
        cost_floor=0.4,
    )
    genomes = np.concatenate(asked(name, space)[1:])
    assert (genomes[:, 0] == 2).all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_scores_are_no_problem(name: SearcherName) -> None:
    space = domain(cost_floor=0.4)
    batches = play(made(name, space, 8, 0), space, lambda rows: np.zeros(len(rows)))
    assert space.cost(np.concatenate(batches)).min() <= 0.5
