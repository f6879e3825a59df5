"""What a search begins with where number formats are a choice."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray

from planner.searchers.frontier.additive_plans import AdditivePlans
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.cost import Cost, Joint
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes
from tests.problems import pairwise

LOWEST = 0.25


def mixed(*, only_budget: bool = False, limit: float = 0.7) -> tuple[Domain, tuple[Floats, ...]]:
    """Sites that cut and sites of formats in turns; a single cut looks like next to nothing."""
    toy = pairwise()
    kinds = tuple("mlp" if site % 2 else "format" for site in range(len(toy.top_levels)))
    space = replace(toy.domain(limit, only_budget=only_budget), kinds=kinds, cost_floor=LOWEST)
    sensitivities = tuple(
        np.linspace(0.01 if kind == "mlp" else 1.0, 0.0, top + 1)
        for kind, top in zip(kinds, toy.top_levels, strict=True)
    )
    return space, sensitivities


def cuts_nothing(space: Domain, plans: Genomes) -> NDArray[np.bool_]:
    return np.asarray((plans == space.top_levels)[:, ~space.in_formats].all(axis=1))


@pytest.mark.parametrize("only_budget", [False, True])
def test_plans_of_formats_alone_are_among_the_seeds_as_far_as_they_reach(
    *, only_budget: bool
) -> None:
    limit = 0.7 if only_budget else 0.9
    space, sensitivities = mixed(only_budget=only_budget, limit=limit)
    seeds = AdditivePlans(space).seeds(sensitivities, 6)
    whole = cuts_nothing(space, seeds)
    assert not whole.all()
    lowest = space.top_levels * ~space.in_formats  # all formats at their fewest bits
    reached = float(space.cost(lowest[None])[0])
    if only_budget:
        assert whole.sum() == (reached <= 0.7)
    else:
        assert whole.sum() == 1 + 12  # that of the budget, and some of all costs
        assert space.cost(seeds[whole]).min() == pytest.approx(reached)
        affordable = seeds[whole & space.affords(seeds)]
        assert losses(sensitivities, affordable).min() == pytest.approx(
            least_loss(space, sensitivities)
        )


def least_loss(space: Domain, sensitivities: tuple[Floats, ...]) -> float:
    """Return the least sum of all plans within the budget that cut nothing."""
    ranges = [
        range(top + 1) if is_format else [top]
        for top, is_format in zip(space.top_levels, space.in_formats, strict=True)
    ]
    plans = np.array(list(product(*ranges)))
    return float(losses(sensitivities, plans[space.affords(plans)]).min())


def losses(sensitivities: tuple[Floats, ...], plans: Genomes) -> Floats:
    return np.asarray(
        np.sum([table[plans[:, site]] for site, table in enumerate(sensitivities)], axis=0)
    )


def test_plans_of_formats_alone_are_closest_where_bytes_matter_most() -> None:
    sites, levels = 6, 12
    table = np.linspace(0.0, 1 / sites, levels)
    joints = tuple(Joint(sites=(site,), table=table) for site in range(sites))
    cost = Cost(joints=joints, fixed=0.0)
    top_levels = np.full(sites, levels - 1)
    space = Domain(top_levels=top_levels, costs=(cost,), cost_floor=0.1, kinds=("format",) * sites)
    steep = tuple(np.exp(-np.arange(levels)) - np.exp(1.0 - levels) for _ in range(sites))
    seeds = AdditivePlans(space).seeds(steep, 6)
    assert len(seeds) == 12
    costs = np.sort(space.cost(seeds))
    assert costs[0] == pytest.approx(0.1, abs=0.02)
    gaps = np.diff(costs)
    assert gaps[:4].mean() < gaps[-4:].mean() / 2


def test_below_the_fewest_bits_all_seeds_cut() -> None:
    space, sensitivities = mixed(only_budget=True, limit=0.3)
    seeds = AdditivePlans(space).seeds(sensitivities, 6)
    assert not cuts_nothing(space, seeds).any()
    best = additive_best(space, sensitivities, [0.3])
    assert (seeds == best).all(axis=1).any()
