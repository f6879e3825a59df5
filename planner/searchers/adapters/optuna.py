"""Ask and tell of optuna's samplers."""

from collections.abc import Callable

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler
from optuna.trial import Trial, TrialState

from planner.searchers.adapters.quiet_optuna import quiet_optuna
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import as_genome, of_interest
from planner.searchers.problem.moves import starting_genomes
from planner.searchers.protocol import Answer, Ask
from search_spaces.space.space import Genome

_ATTEMPTS_PER_GENOME = 5


class OptunaStudy:
    """A sampler of optuna that never asks twice: the common part of all.

    The sampler sees a category for each level of each site: of those used here only the Parzen
    estimator uses the order of integers, and then takes 2 s instead of 0.8 s for 16 genomes of 60
    sites. What is proposed again, or far below the costs of interest, is not scored. It counts as
    running until the scores of the others are reported, for samplers avoid what is running, and
    then as failed.

    Args:
        sampler: Returns the sampler.
        domain: Levels and costs.
        population: Genomes proposed at a time.
        seed: Of the genomes to start from.
    """

    def __init__(
        self, sampler: Callable[[], BaseSampler], domain: Domain, population: int, seed: int
    ) -> None:
        self._domain = domain
        self._population = population
        self._seen = set[Genome]()
        self._asked: dict[Genome, Trial] = {}
        self._refused: list[Trial] = []
        self._sites: dict[str, BaseDistribution] = {
            f"site {site}": CategoricalDistribution(tuple(range(int(top) + 1)))
            for site, top in enumerate(domain.top_levels)
        }
        with quiet_optuna():
            self._study = optuna.create_study(
                storage=None,
                sampler=sampler(),
                directions=["minimize"] * (1 + len(domain.costs)),
            )
        rng = np.random.default_rng(seed)
        for genome in starting_genomes(domain, population, rng):
            self._study.enqueue_trial(dict(zip(self._sites, as_genome(genome), strict=True)))

    def ask(self) -> Ask:
        self._asked = {}
        for _ in range(_ATTEMPTS_PER_GENOME * self._population):
            trial = self._study.ask(self._sites)
            params = trial.params
            levels = np.array([params[site] for site in self._sites], dtype=np.int_)
            genome = as_genome(levels)
            if genome not in self._seen and of_interest(levels[None], self._domain)[0]:
                self._seen.add(genome)
                self._asked[genome] = trial
            else:
                self._refused.append(trial)
            if len(self._asked) == self._population:
                break
        genomes = np.array(list(self._asked), dtype=np.int_).reshape(-1, len(self._sites))
        return Ask(genomes=genomes)

    def tell(self, ask: Ask, answer: Answer) -> None:
        for genome, values in zip(map(as_genome, ask.genomes), answer.objectives, strict=True):
            self._study.tell(self._asked[genome], values.tolist())
        for trial in self._refused:
            self._study.tell(trial, state=TrialState.FAIL)
        self._refused = []


class TPE(OptunaStudy):
    """Tree-structured Parzen estimator for several objectives, all sites at once.

    References:
        Ozaki, Tanigaki, Watanabe, Nomura, Onishi (2022), doi:10.1613/jair.1.13188.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        def sampler() -> TPESampler:
            return TPESampler(
                # the starting genomes are not random, and inform the model as well
                n_startup_trials=population,
                multivariate=True,
                # a population is asked before any of its scores are known
                constant_liar=True,
                seed=seed,
            )

        super().__init__(sampler, domain, population, seed)


class OptunaNSGA2(OptunaStudy):
    """Non-dominated sorting genetic algorithm with optuna's own operators, at its own settings.

    References:
        Deb, Pratap, Agarwal, Meyarivan (2002), doi:10.1109/4235.996017.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        def sampler() -> NSGAIISampler:
            return NSGAIISampler(population_size=population, seed=seed)

        super().__init__(sampler, domain, population, seed)
