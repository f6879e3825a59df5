"""Knapsack: score every site alone, add up, solve exactly."""

import numpy as np

from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.descent import spread_limits
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.scripted import Script, ScriptedSearcher
from planner.searchers.problem.single_sites import sensitivity_tables, single_sites

_MOST_LEVELS = 4


class Knapsack(ScriptedSearcher):
    """Takes the plan whose single-site KLs have the least sum within each budget.

    As in Puzzle: what a choice does is measured with all else dense, assumed to add up, and a
    mixed-integer program picks one choice for each site under limits on all costs at once.
    Different here: choices are levels of units in the order of importance and are not distilled
    first; four levels of a site are scored and the others interpolated; and the solution is scored
    jointly, which shows what adding up was worth. With a front in focus it is solved for many
    budgets, evenly spread.

    Args:
        domain: Sites, levels and costs.
        population: How many budgets, where not only one matters.

    References:
        Bercovich et al., 2024, "Puzzle: Distillation-Based NAS for Inference-Optimized LLMs".
    """

    def __init__(self, domain: Domain, population: int) -> None:
        super().__init__(_script(domain, population), len(domain.top_levels))


def _script(domain: Domain, population: int) -> Script:
    singles = single_sites(domain, _MOST_LEVELS)
    kls = yield singles
    sensitivities = sensitivity_tables(domain, singles, kls)
    budgets = spread_limits(domain, population)
    yield np.array([additive_best(domain, sensitivities, limits) for limits in budgets])
