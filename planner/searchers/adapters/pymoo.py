"""Ask and tell of pymoo's genetic algorithms, with mutations that know the cost of a level."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pymoo.algorithms.base.genetic import GeneticAlgorithm
from pymoo.algorithms.moo import nsga2, sms
from pymoo.core.duplicate import DuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.core.selection import Selection
from pymoo.core.survival import Survival
from pymoo.core.termination import NoTermination
from pymoo.operators.crossover.pntx import TwoPointCrossover
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding

from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import are_new, as_genome, of_interest
from planner.searchers.problem.moves import mutate, starting_genomes
from planner.searchers.protocol import Answer, Ask, Floats, Genomes
from search_spaces.space.space import Genome

Mutate = Callable[[Genomes, np.random.Generator], Genomes]
"""Returns mutants of genomes ``(genomes, sites)``."""


class PymooSearch:
    """A genetic algorithm of pymoo: the common part of all.

    Args:
        algorithm: Class of the algorithm.
        domain: Levels and costs.
        population: Genomes kept, and proposed at a time.
        seed: Of all chance.
        selection: How parents are selected.
        survival: How survivors are selected.
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
        self._distinct = _Distinct(domain)
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
            mutation=_Mutation(partial(mutate, domain)),
            survival=survival,
            eliminate_duplicates=self._distinct,
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
        self._distinct.seen.update(map(as_genome, genomes))
        return Ask(genomes=genomes)

    def tell(self, ask: Ask, answer: Answer) -> None:
        infills = Population.new(X=ask.genomes)
        infills.set("F", answer.objectives)
        self._algorithm.tell(infills=infills)


class _Mutation(Mutation):  # type: ignore[misc]  # pymoo ships no types
    """Mutates every child by a function."""

    def __init__(self, mutate: Mutate) -> None:
        super().__init__(prob=1.0)
        self._mutate = mutate

    def _do(
        self,
        _problem: Problem,
        genomes: Genomes,
        *,
        random_state: np.random.Generator,
        **_kwargs: object,
    ) -> Genomes:
        return self._mutate(genomes.astype(np.int_), random_state)


class _Distinct(DuplicateElimination):  # type: ignore[misc]  # pymoo ships no types
    """Admits each genome once; pymoo's own class compares all pairs.

    Args:
        domain: Excludes what is far below its costs of interest; none: nothing.
    """

    def __init__(self, domain: Domain | None = None) -> None:
        super().__init__()
        self.seen = set[Genome]()
        """Genomes that are not admitted any more."""
        self._domain = domain

    def do(self, children: Population, *others: Population, **_: object) -> Population:
        if len(children) == 0:
            return children
        seen = self.seen | {as_genome(row) for other in others for row in other.get("X")}
        levels = children.get("X").astype(np.int_)
        admitted = are_new(levels, seen)
        if self._domain is not None:
            admitted &= of_interest(levels, self._domain)
        return children[np.flatnonzero(admitted)]


def run_nsga2(  # noqa: PLR0913  (all that an evolution is made of)
    start: Genomes,
    top_levels: NDArray[np.int_],
    objectives: Callable[[Genomes], Floats],
    mutation: Mutate,
    *,
    objective_count: int,
    generations: int,
    rng: np.random.Generator,
) -> Genomes:
    """Run NSGA-II for some generations on a cheap function, such as a surrogate.

    Args:
        start: The first population, ``(genomes, sites)``; all later ones are as large.
        top_levels: Highest level of each site, ``(sites,)``.
        objectives: Returns values to minimise, ``(genomes, objectives)``.
        mutation: Returns mutants of children.
        objective_count: How many values these are.
        generations: How many.
        rng: Source of all chance.

    Returns:
        The last population, ``(genomes, sites)``.
    """
    algorithm = nsga2.NSGA2(
        pop_size=len(start),
        sampling=start,
        selection=TournamentSelection(func_comp=nsga2.binary_tournament),
        crossover=TwoPointCrossover(prob=0.9),
        mutation=_Mutation(mutation),
        survival=RankAndCrowding(),
        eliminate_duplicates=_Distinct(),
        output=None,
    )
    problem = Problem(n_var=start.shape[1], n_obj=objective_count, xl=0, xu=top_levels, vtype=int)
    algorithm.setup(problem, termination=NoTermination(), seed=0)
    algorithm.random_state = rng
    for _ in range(generations):
        infills = algorithm.ask()
        if infills is None or len(infills) == 0:
            break
        infills.set("F", objectives(infills.get("X").astype(np.int_)))
        algorithm.tell(infills=infills)
    return np.asarray(algorithm.pop.get("X").astype(np.int_))


class NSGA2(PymooSearch):
    """Non-dominated sorting genetic algorithm, with mutations that know the cost of a level.

    References:
        Deb, Pratap, Agarwal, Meyarivan (2002), doi:10.1109/4235.996017.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        super().__init__(
            nsga2.NSGA2,
            domain,
            population,
            seed,
            selection=TournamentSelection(func_comp=nsga2.binary_tournament),
            survival=RankAndCrowding(),
        )


# how far beyond the worst of the front the reference point lies, in spans of the front: its ends
# then contribute more than any plan between them, and are kept
_REFERENCE_BEYOND = 10.0


class SMSEMOA(PymooSearch):
    """S-metric selection: removes those that contribute least to the dominated hypervolume.

    As published, except that whole populations of children are scored at a time, to be raced.

    References:
        Beume, Naujoks, Emmerich (2007), doi:10.1016/j.ejor.2006.08.008.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        super().__init__(
            sms.SMSEMOA,
            domain,
            population,
            seed,
            selection=TournamentSelection(func_comp=sms.cv_and_dom_tournament),
            survival=sms.LeastHypervolumeContributionSurvival(eps=_REFERENCE_BEYOND),
        )
