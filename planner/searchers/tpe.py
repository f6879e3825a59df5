"""The tree-structured Parzen estimator through optuna."""

from optuna.samplers import TPESampler

from planner.searchers.domain import Domain
from planner.searchers.optuna_study import OptunaStudy


class TPE(OptunaStudy):
    """Tree-structured Parzen estimator for several objectives, all sites at once.

    References:
        Ozaki, Tanigaki, Watanabe, Nomura, Onishi (2022), doi:10.1613/jair.1.13188.
    """

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        def sampler() -> TPESampler:
            return TPESampler(
                # what it starts from is not drawn by chance, and tells as much
                n_startup_trials=population,
                multivariate=True,
                # a population is asked before any of it is told
                constant_liar=True,
                seed=seed,
            )

        super().__init__(sampler, domain, population, seed)
