"""NSGA-II through pymoo: the one file that imports it."""

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.moo import nsga2
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from planner.evaluation import Genome
from planner.searchers.domain import Domain
from planner.searchers.moves import as_genome, starting_genomes, transferred
from planner.searchers.protocol import Answer, Ask

# a uniform plan of a cost lies up to one step below it
_FLOOR_SLACK = 0.9
_MOST_TRANSFERS = 4


class NSGA2:
    """Non-dominated sorting genetic algorithm, with moves that know the cost of a level.

    References:
        Deb, Pratap, Agarwal, Meyarivan (2002), doi:10.1109/4235.996017.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        self._sites = len(domain.top_levels)
        self._unseen = _Unseen(domain)
        rng = np.random.default_rng(seed)
        # pymoo swallows misspelt arguments and shares mutable defaults: all that matter are given
        self._algorithm = nsga2.NSGA2(
            pop_size=population,
            sampling=starting_genomes(domain, population, rng),
            selection=TournamentSelection(func_comp=nsga2.binary_tournament),
            # two points and not uniform: a stretch of neighbouring layers is inherited whole, and
            # a child shares the scored prefix of its parent up to the first point
            crossover=TwoPointCrossover(prob=0.9),
            mutation=_Transfer(domain),
            survival=RankAndCrowding(),
            eliminate_duplicates=self._unseen,
            output=None,
        )
        problem = Problem(
            n_var=self._sites, n_obj=1 + len(domain.costs), xl=0, xu=domain.top_levels, vtype=int
        )
        self._algorithm.setup(problem, termination=NoTermination(), seed=seed)
        self._algorithm.random_state = rng

    def ask(self) -> Ask:
        infills = self._algorithm.ask()
        if infills is None:
            return Ask(genomes=np.empty((0, self._sites), dtype=np.int_))
        genomes: NDArray[np.int_] = infills.get("X").astype(np.int_)
        self._unseen.genomes.update(map(as_genome, genomes))
        return Ask(genomes=genomes)

    def tell(self, ask: Ask, answer: Answer) -> None:
        infills = Population.new(X=ask.genomes)
        infills.set("F", answer.objectives)
        self._algorithm.tell(infills=infills)


class _Transfer(Mutation):  # type: ignore[misc]  # pymoo ships no types
    """Levels moved between the sites of every child."""

    def __init__(self, domain: Domain) -> None:
        super().__init__(prob=1.0)
        self._domain = domain

    def _do(
        self,
        _problem: Problem,
        genomes: NDArray[np.int_],
        *,
        random_state: np.random.Generator,
        **_kwargs: object,
    ) -> NDArray[np.int_]:
        levels = genomes.astype(np.int_)
        for row in levels:
            for _ in range(int(random_state.integers(1, _MOST_TRANSFERS + 1))):
                row[:] = transferred(row, self._domain, random_state)
        return levels


class _Unseen(DuplicateElimination):  # type: ignore[misc]  # pymoo ships no types
    """Lets through what was never asked and is worth looking at."""

    def __init__(self, domain: Domain) -> None:
        super().__init__()
        self.genomes = set[Genome]()
        self._domain = domain

    def do(self, children: Population, *others: Population, **_: object) -> Population:
        if len(children) == 0:
            return children
        taken = self.genomes | {as_genome(row) for other in others for row in other.get("X")}
        levels = children.get("X").astype(np.int_)
        costs = self._domain.cost(levels)
        kept = []
        for index, (row, cost) in enumerate(zip(levels, costs, strict=True)):
            genome = as_genome(row)
            if genome not in taken and cost >= _FLOOR_SLACK * self._domain.cost_floor:
                taken.add(genome)
                kept.append(index)
        return children[kept]
