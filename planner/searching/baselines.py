"""Baselines: plans found without a search, which a search must beat to be worth its time."""

import numpy as np
from numpy.typing import NDArray

from planner.preparation.prepared_model import PreparedModel
from planner.results.front import front
from planner.results.indicators import plan_at_knee
from planner.runs.records import BASELINE_ROUND
from planner.runs.run_store import RunStore
from planner.searchers.problem.additive import additive_best
from planner.searchers.problem.domain import Domain
from planner.searching.problem import Problem
from planner.settings.budget import Budget, Limit

_UNIFORM_STEPS = 1001
_LIMIT_SHARES = np.linspace(1.0, 0.9, 11)


def baseline_genomes(
    problem: Problem, prepared: PreparedModel, domain: Domain
) -> dict[str, NDArray[np.int_]]:
    """Return the baselines that meet all limits of a problem on costs, each ``(sites,)``.

    Returns:
        ``uniform``, the largest plan with the same share pruned everywhere, in one number format;
        ``additive``, the best plan if the domain's sensitivities added up; each if there is one.
    """
    costs_only = problem.budget.costs_only()

    def fits(genome: NDArray[np.int_]) -> bool:
        return costs_only.admits(prepared.costs_of(genome), problem.dense)

    uniform = (domain.uniform(float(target)) for target in np.linspace(1.0, 0.0, _UNIFORM_STEPS))
    # a domain's costs are shares, and plans without attention are repaired: limits may be missed
    additive = (
        _additive(domain, float(share)) for share in _LIMIT_SHARES if domain.sensitivity_tables
    )
    candidates = {"uniform": uniform, "additive": additive}
    fitting = {name: next(filter(fits, genomes), None) for name, genomes in candidates.items()}
    return {name: genome for name, genome in fitting.items() if genome is not None}


def budget_at_knee(run: RunStore, problem: Problem) -> Budget | None:
    """Return the budget to compare within if the user limits no cost: what the knee plan costs.

    Without a knee it is the plan in the middle of the front; `None` if there is no front.
    Baselines are left out, so that a resumed run compares at the same plan.
    """
    names = problem.cost_names
    proposed = [e for e in run.landed() if e.round != BASELINE_ROUND]
    plans = front(proposed, names)
    if not plans:
        return None
    costs = (plan_at_knee(plans, names, problem.dense) or plans[len(plans) // 2]).costs
    limits = (Limit(metric=n, value=float(costs[n]), relative=False) for n in names)
    return Budget(limits=tuple(limits))


def _additive(domain: Domain, share: float) -> NDArray[np.int_]:
    """Return the exact optimum of the domain's sensitivities, within a share of its limits."""
    limits = [None if cost.limit is None else share * cost.limit for cost in domain.costs]
    return additive_best(domain, domain.sensitivity_tables, limits)
