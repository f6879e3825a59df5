"""NSGA-II as optuna has it, which knows nothing of costs."""

from optuna.samplers import NSGAIISampler

from planner.searchers.domain import Domain
from planner.searchers.optuna_study import OptunaStudy


class OptunaNSGA2(OptunaStudy):
    """Non-dominated sorting genetic algorithm with optuna's own moves, at its own settings.

    References:
        Deb, Pratap, Agarwal, Meyarivan (2002), doi:10.1109/4235.996017.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        def sampler() -> NSGAIISampler:
            return NSGAIISampler(population_size=population, seed=seed)

        super().__init__(sampler, domain, population, seed)
