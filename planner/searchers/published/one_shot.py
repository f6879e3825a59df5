"""One shot: the best plans by the sensitivity prior, without learning from any score."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.descent import spread_limits
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.scripted import Script, ScriptedSearcher


class OneShot(ScriptedSearcher):
    """Takes the plan within each budget that is best by the domain's sensitivity prior.

    So do the methods that order all parts of a model by importance once and prune the last. Where
    the prior is of sensitivities, the plan has the least sum of them; where it is of what each
    site needs beyond the common share, as in OWL, that is what each keeps; where there is none,
    all keep the same share. With a front in focus it proposes a plan for many budgets, evenly
    spread.

    Args:
        domain: Sites, levels, costs and the prior.
        population: How many budgets, where not only one matters.

    References:
        Yin et al., 2024, "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for
        Pruning LLMs to High Sparsity" (what sites keep beyond the common share).
    """

    def __init__(self, domain: Domain, population: int) -> None:
        super().__init__(_script(domain, population), len(domain.top_levels))


def _script(domain: Domain, population: int) -> Script:
    yield np.array([_plan(domain, limits) for limits in spread_limits(domain, population)])


def _plan(domain: Domain, limits: list[float | None]) -> NDArray[np.int_]:
    """Return the best plan by the prior within a limit on each cost."""
    if len(domain.tilt) or not domain.sensitivity_tables:
        tilt = domain.tilt if len(domain.tilt) else domain.uniform_tilt
        return domain.tilted_within(
            tilt, np.array([np.inf if limit is None else limit for limit in limits])
        )
    return additive_best(domain, domain.sensitivity_tables, limits)
