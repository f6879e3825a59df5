"""A large NSGA-II on what the surrogate expects: thousands of genomes a second, none scored."""

from collections.abc import Callable

import numpy as np
from pymoo.algorithms.moo import nsga2
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from planner.searchers.domain import Domain
from planner.searchers.moves import repaying
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
    algorithm = nsga2.NSGA2(
        pop_size=_POPULATION,
        sampling=first,
        selection=TournamentSelection(func_comp=nsga2.binary_tournament),
        crossover=TwoPointCrossover(prob=0.9),
        mutation=_Moves(domain),
        survival=RankAndCrowding(),
        eliminate_duplicates=_Distinct(),
        output=None,
    )
    problem = Problem(
        n_var=start.shape[1], n_obj=1 + len(domain.costs), xl=0, xu=domain.top_levels, vtype=int
    )
    algorithm.setup(problem, termination=NoTermination(), seed=0)
    algorithm.random_state = rng
    for _ in range(_GENERATIONS):
        infills = algorithm.ask()
        if infills is None or len(infills) == 0:
            break
        genomes = infills.get("X").astype(np.int_)
        infills.set("F", objectives(domain, genomes, expect(genomes)))
        algorithm.tell(infills=infills)
    return np.asarray(algorithm.pop.get("X").astype(np.int_))


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


class _Moves(Mutation):  # type: ignore[misc]  # pymoo ships no types
    def __init__(self, domain: Domain) -> None:
        super().__init__(prob=1.0)
        self._domain = domain

    def _do(
        self,
        _problem: Problem,
        genomes: Genomes,
        *,
        random_state: np.random.Generator,
        **_kwargs: object,
    ) -> Genomes:
        return moved(genomes.astype(np.int_), self._domain, random_state)


class _Distinct(DuplicateElimination):  # type: ignore[misc]  # pymoo ships no types
    """Lets each genome through once; pymoo's own compares all pairs."""

    def do(self, children: Population, *others: Population, **_: object) -> Population:
        if len(children) == 0:
            return children
        taken = {row.tobytes() for other in others for row in other.get("X").astype(np.int_)}
        kept = []
        for index, row in enumerate(children.get("X").astype(np.int_)):
            key = row.tobytes()
            if key not in taken:
                taken.add(key)
                kept.append(index)
        return children[kept]
