"""Expected improvement: how much better a plan would make the answers to budgets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats

_BUDGETS = 128
_SQRT_TAU = float(np.sqrt(2 * np.pi))
_UNANSWERED = 1e3
"""Log KL of the answer to a budget that no plan is within."""
_CEILING_MARGIN = 3.0


@dataclass(eq=False)
class Budgets:
    """Budgets that a user may name, and the lowest log KL that answers each so far.

    The mean over budgets of what a plan improves is its improvement of the hypervolume under the
    front of log KL, up to a constant: the integral over costs is taken at points spread evenly
    over them.

    References:
        Emmerich, Giannakoglou & Naujoks, 2006 (expected improvement of hypervolume); Jones,
        Schonlau & Welch, 1998, equation 15 (expected improvement).
    """

    limits: Floats
    """``(budgets, costs)``, shares of the dense model's."""
    best: Floats
    """Log KL, ``(budgets,)``."""

    @classmethod
    def of(cls, domain: Domain) -> "Budgets":
        """Return budgets spread over the costs that are of interest, with no answers yet."""
        allowed = [1.0 if cost.limit is None else cost.limit for cost in domain.costs]
        if domain.only_budget:
            limits = np.array([allowed])
        else:
            smallest = domain.all_costs(np.zeros((1, len(domain.top_levels)), dtype=np.int_))[0]
            low = np.array([domain.cost_floor, *smallest[1:]])
            points = qmc.Sobol(len(low), scramble=False).random(_BUDGETS)
            limits = low + (1.0 - low) * (points + 0.5 / _BUDGETS)
            named = [cost.limit is not None for cost in domain.costs]
            limits = np.concatenate([limits, [allowed]]) if any(named) else limits
        return cls(limits, np.full(len(limits), _UNANSWERED))

    def update(self, costs: Floats, log_kls: Floats) -> None:
        """Let plans answer the budgets that they are within and better for.

        Args:
            costs: ``(plans, costs)``
            log_kls: ``(plans,)``
        """
        for plan_costs, log_kl in zip(costs, log_kls, strict=True):
            admitted = self.admit(plan_costs[None])[0]
            self.best[admitted] = np.minimum(self.best[admitted], log_kl)

    def expected_improvements(self, costs: Floats, means: Floats, spreads: Floats) -> Floats:
        """Return the expected improvement by each plan at each budget, ``(plans, budgets)``.

        Args:
            costs: ``(plans, costs)``
            means: Expected log KL, ``(plans,)``.
            spreads: Its standard deviation, ``(plans,)``.

        >>> budgets = Budgets(np.array([[0.5], [0.9]]), np.array([0.2, 0.2]))
        >>> plan = np.array([[0.7]]), np.array([0.2]), np.array([1.0])
        >>> budgets.expected_improvements(*plan).round(4).tolist()
        [[0.0, 0.3989]]
        """
        # a budget that no plan answers would outweigh all others: its answer is bounded
        ceiling = means.max() + _CEILING_MARGIN if len(means) else 0.0
        better = np.minimum(self.best, ceiling)[None] - means[:, None]
        # E max(0, best − y) = (best − mean) Φ(z) + spread φ(z) where y is normal
        z = better / spreads[:, None]
        expected = better * ndtr(z) + spreads[:, None] * np.exp(-(z**2) / 2) / _SQRT_TAU
        return np.where(self.admit(costs), expected, 0.0)

    def admit(self, costs: Floats) -> NDArray[np.bool_]:
        """Return which plans ``(plans, costs)`` are within which budgets, ``(plans, budgets)``."""
        return np.asarray((costs[:, None] <= self.limits[None] + 1e-12).all(axis=2))


def pick(count: int, budgets: Budgets, costs: Floats, means: Floats, spreads: Floats) -> list[int]:
    """Pick the plans of the highest joint expected improvement, one after another.

    Each one picked is assumed to score about as expected, so that the next improve other budgets.

    Args:
        count: How many at most.
        budgets: With their answers so far; left as they are.
        costs: ``(plans, costs)``
        means: Expected log KL, ``(plans,)``.
        spreads: Its standard deviation, ``(plans,)``.

    Returns:
        Positions of the plans picked.
    """
    assumed = Budgets(budgets.limits, budgets.best.copy())
    picked: list[int] = []
    available = np.ones(len(means), dtype=bool)
    while len(picked) < count and available.any():
        acquisition = assumed.expected_improvements(costs, means, spreads).mean(axis=1)
        chosen = int(np.argmax(np.where(available, acquisition, -1.0)))
        picked.append(chosen)
        available[chosen] = False
        # half a deviation better than expected: near copies then have no expected improvement
        believed = means[chosen] - spreads[chosen] / 2
        assumed.update(costs[chosen][None], believed[None])
    return picked
