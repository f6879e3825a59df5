"""One shot: what the guess says, and nothing is learned."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.descent import Descent
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.scripted import Script, ScriptedSearcher


class OneShot(ScriptedSearcher):
    """Takes the plan within each budget that the domain's guess holds for the best one.

    So do the methods that rank all parts of a model once and cut the last. Where the guess is of
    harm, the plan is the one of least harm, were harms to add up; where it is of what each site
    needs beyond the common share, as in OWL, that is what each keeps; where there is none, all
    keep the same share. With a front in focus it proposes a plan for many budgets, evenly spread.

    Args:
        domain: Sites, levels, costs and the guess.
        population: How many budgets, where not only one matters.

    References:
        Yin et al., 2024, "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for
        Pruning LLMs to High Sparsity" (what sites keep beyond the common share).
    """

    def __init__(self, domain: Domain, population: int) -> None:
        super().__init__(_script(domain, population), len(domain.top_levels))


def _script(domain: Domain, population: int) -> Script:
    budgets = [Descent.to_budget(domain).limits_at(1.0)]
    if not domain.only_budget:
        way = Descent.to_end(domain)
        # the dense model, at 0, is no guess
        shares = np.linspace(0.0, 1.0, population + 1)[1:]
        budgets += [way.limits_at(float(share)) for share in shares]
    yield np.array([_plan(domain, limits) for limits in budgets])


def _plan(domain: Domain, limits: list[float | None]) -> NDArray[np.int_]:
    """Give the plan that the guess is for, within a limit on each cost."""
    if len(domain.tilt) or not domain.sensitivity_tables:
        tilt = domain.tilt if len(domain.tilt) else domain.even
        return domain.tilted_within(
            tilt, np.array([np.inf if limit is None else limit for limit in limits])
        )
    return additive_best(domain, domain.sensitivity_tables, limits)
