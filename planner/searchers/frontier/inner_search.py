"""NSGA-II on the surrogate: thousands of genomes a second, none of them scored."""

from collections.abc import Callable
from functools import partial

import numpy as np

from planner.searchers.adapters import pymoo
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import mutate
from planner.searchers.protocol import Floats, Genomes

_POPULATION = 64
_GENERATIONS = 12
_PENALTY = 1e3


def evolve(
    domain: Domain,
    expect: Callable[[Genomes], Floats],
    start: Genomes,
    rng: np.random.Generator,
) -> Genomes:
    """Evolve genomes of low expected KL at their costs.

    Args:
        domain: Levels, costs, and what of them is of interest.
        expect: Returns the expected log KL of genomes, ``(genomes,)``.
        start: First genomes, ``(genomes, sites)``; filled up with their mutants.
        rng: Source of all chance.

    Returns:
        The last population, ``(genomes, sites)``.
    """
    parents = start[rng.integers(len(start), size=max(0, _POPULATION - len(start)))]
    first = np.concatenate([start[:_POPULATION], mutate(domain, parents, rng)])
    return pymoo.run_nsga2(
        first,
        domain.top_levels,
        lambda genomes: objectives(domain, genomes, expect(genomes)),
        partial(mutate, domain),
        objective_count=1 + len(domain.costs),
        generations=_GENERATIONS,
        rng=rng,
    )


def objectives(domain: Domain, genomes: Genomes, expected: Floats) -> Floats:
    """Return expected log KL and costs, ``(genomes, 1 + costs)``.

    Log KL is penalised by what a genome lies below the costs of interest or above the budget.
    """
    costs = domain.all_costs(genomes)
    excess = np.maximum(domain.cost_floor - costs[:, 0], 0.0)
    if domain.only_budget:
        limits = domain.allowed
        excess = excess + np.maximum(costs - limits, 0.0).sum(axis=1)
        costs = np.where(np.isfinite(limits), np.maximum(costs, limits), costs)
    return np.column_stack([expected + _PENALTY * excess, costs])
