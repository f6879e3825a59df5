"""A large NSGA-II on what the surrogate expects: thousands of genomes a second, none scored."""

from collections.abc import Callable

import numpy as np

from planner.searchers.adapters import pymoo
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.moves import repaying
from planner.searchers.protocol import Floats, Genomes

_POPULATION = 64
_GENERATIONS = 12
_REPAID_SHARE = 0.8
_PENALTY = 1e3


def evolve(
    domain: Domain,
    expect: Callable[[Genomes], Floats],
    start: Genomes,
    rng: np.random.Generator,
) -> Genomes:
    """Evolve genomes that are expected to be good at their costs.

    Args:
        domain: Levels, costs, and what of them is of interest.
        expect: Gives the expected log KL of genomes, ``(genomes,)``.
        start: Where to begin, ``(genomes, sites)``; filled up with their mutants.
        rng: Where chance comes from.

    Returns:
        The last population, ``(genomes, sites)``.
    """
    mutants = start[rng.integers(len(start), size=max(0, _POPULATION - len(start)))]
    first = np.concatenate([start[:_POPULATION], moved(mutants, domain, rng)])
    return pymoo.evolve(
        first,
        domain.top_levels,
        lambda genomes: objectives(domain, genomes, expect(genomes)),
        lambda genomes, rng: moved(genomes, domain, rng),
        generations=_GENERATIONS,
        rng=rng,
    )


def objectives(domain: Domain, genomes: Genomes, expected: Floats) -> Floats:
    """Give expected log KL and costs; what is of no interest is punished, ``(genomes, …)``."""
    prices = domain.prices(genomes)
    excess = np.maximum(domain.cost_floor - prices[:, 0], 0.0)
    if domain.only_budget:
        limits = domain.allowed
        excess = excess + np.maximum(prices - limits, 0.0).sum(axis=1)
        prices = np.where(np.isfinite(limits), np.maximum(prices, limits), prices)
    return np.column_stack([expected + _PENALTY * excess, prices])


def moved(genomes: Genomes, domain: Domain, rng: np.random.Generator) -> Genomes:
    """Move levels between sites, one to three times each, mostly at about equal cost."""
    found = genomes.copy()
    times = rng.integers(1, 4, size=len(found))
    for turn in range(3):
        rows = np.flatnonzero(times > turn)
        found[rows] = _transferred(found[rows], domain, rng)
    return found


def _transferred(genomes: Genomes, domain: Domain, rng: np.random.Generator) -> Genomes:
    """Change one site of each genome, and mostly repay its cost at another."""
    count, sites = genomes.shape
    rows = np.arange(count)
    top = domain.top_levels
    first, second = rng.integers(sites, size=(2, count))
    steps = 1 + np.abs(rng.normal(0, top[first] / 4)).astype(np.int_)
    level = np.asarray(genomes[rows, first])
    up = (level == 0) | ((level < top[first]) & (rng.random(count) < 0.5))
    changed = genomes.copy()
    changed[rows, first] = np.clip(np.where(up, level + steps, level - steps), 0, top[first])
    owed = domain.cost(genomes) - domain.cost(changed)
    repaid = (rng.random(count) < _REPAID_SHARE) & (second != first)
    for row in rows[repaid]:
        site = int(second[row])
        table = domain.costs[0].along(site, changed[row])
        changed[row, site] = repaying(table, int(changed[row, site]), float(owed[row]))
    return changed
