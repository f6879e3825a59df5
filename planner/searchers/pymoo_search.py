"""Ask and tell of pymoo's genetic algorithms, with moves that know the cost of a level."""

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.selection import Selection
from pymoo.core.survival import Survival
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.pntx import TwoPointCrossover

from planner.evaluation import Genome
from planner.searchers.domain import Domain
from planner.searchers.moves import as_genome, starting_genomes, transferred, worth_a_look
from planner.searchers.protocol import Answer, Ask

_MOST_TRANSFERS = 4


class PymooSearch:
    """A genetic algorithm of pymoo: what all have in common.

    Args:
        algorithm: Class of the algorithm.
        domain: Levels and costs.
        population: Genomes kept, and proposed at a time.
        seed: Of all chance.
        selection: Who becomes a parent.
        survival: Who is kept.
    """

    def __init__(
        self,
        algorithm: type[GeneticAlgorithm],
        domain: Domain,
        population: int,
        seed: int,
        *,
        selection: Selection,
        survival: Survival,
    ) -> None:
        self._sites = len(domain.top_levels)
        self._unseen = _Unseen(domain)
        rng = np.random.default_rng(seed)
        # pymoo swallows misspelt arguments and shares mutable defaults: all that matter are given
        self._algorithm = algorithm(
            pop_size=population,
            n_offsprings=population,
            sampling=starting_genomes(domain, population, rng),
            selection=selection,
            # two points and not uniform: a stretch of neighbouring layers is inherited whole, and
            # a child shares the scored prefix of its parent up to the first point
            crossover=TwoPointCrossover(prob=0.9),
            mutation=_Transfer(domain),
            survival=survival,
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
        kept = []
        for index, (row, worth) in enumerate(
            zip(levels, worth_a_look(levels, self._domain), strict=True)
        ):
            genome = as_genome(row)
            if worth and genome not in taken:
                taken.add(genome)
                kept.append(index)
        return children[kept]
