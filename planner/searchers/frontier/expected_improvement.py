"""What a plan is expected to gain: how much better the answers to budgets would become."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import qmc

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats

_BUDGETS = 128
_SQRT_TAU = float(np.sqrt(2 * np.pi))
_NEVER = 1e3


@dataclass(eq=False)
class Budgets:
    """Budgets that a user may name, and the lowest log KL that answers each so far.

    The mean over budgets of what a plan improves is the gain of hypervolume under the front of log
    KL, up to a constant: the integral over costs is taken at points spread evenly over them.

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
        """Spread budgets over the costs that are of interest, with no answers yet."""
        allowed = [1.0 if cost.limit is None else cost.limit for cost in domain.costs]
        if domain.only_budget:
            limits = np.array([allowed])
        else:
            smallest = domain.prices(np.zeros((1, len(domain.top_levels)), dtype=np.int_))[0]
            low = np.array([domain.cost_floor, *smallest[1:]])
            points = qmc.Sobol(len(low), scramble=False).random(_BUDGETS)
            limits = low + (1.0 - low) * (points + 0.5 / _BUDGETS)
            named = [cost.limit is not None for cost in domain.costs]
            limits = np.concatenate([limits, [allowed]]) if any(named) else limits
        return cls(limits, np.full(len(limits), _NEVER))

    def answer(self, prices: Floats, log_kls: Floats) -> None:
        """Take plans ``(plans, costs)`` for the budgets that they are the best answer to."""
        for price, log_kl in zip(prices, log_kls, strict=True):
            admitted = self.admit(price[None])[0]
            self.best[admitted] = np.minimum(self.best[admitted], log_kl)

    def gains(self, prices: Floats, means: Floats, spreads: Floats) -> Floats:
        """Give the expected improvement of each plan at each budget, ``(plans, budgets)``.

        Args:
            prices: ``(plans, costs)``
            means: Expected log KL, ``(plans,)``.
            spreads: Its standard deviation, ``(plans,)``.
        """
        ceiling = means.max() + 3.0 if len(means) else 0.0
        better = np.minimum(self.best, ceiling)[None] - means[:, None]
        z = better / spreads[:, None]
        expected = better * ndtr(z) + spreads[:, None] * np.exp(-(z**2) / 2) / _SQRT_TAU
        return np.where(self.admit(prices), expected, 0.0)

    def admit(self, prices: Floats) -> NDArray[np.bool_]:
        """Tell which plans ``(plans, costs)`` are within which budgets, ``(plans, budgets)``."""
        return np.asarray((prices[:, None] <= self.limits[None] + 1e-12).all(axis=2))


def pick(
    count: int, budgets: Budgets, prices: Floats, means: Floats, spreads: Floats
) -> list[int]:
    """Pick the plans that together promise most, one after another.

    Each one picked is taken to become what it is expected to, so that the next gains elsewhere.

    Args:
        count: How many at most.
        budgets: With their answers so far; left as they are.
        prices: ``(plans, costs)``
        means: Expected log KL, ``(plans,)``.
        spreads: Its standard deviation, ``(plans,)``.

    Returns:
        Positions of the plans picked.
    """
    so_far = Budgets(budgets.limits, budgets.best.copy())
    picked: list[int] = []
    alive = np.ones(len(means), dtype=bool)
    while len(picked) < count and alive.any():
        gains = so_far.gains(prices, means, spreads).mean(axis=1)
        chosen = int(np.argmax(np.where(alive, gains, -1.0)))
        picked.append(chosen)
        alive[chosen] = False
        # as good as it may well turn out: near copies of it then promise nothing more
        hoped = means[chosen] - spreads[chosen] / 2
        so_far.answer(prices[chosen][None], hoped[None])
    return picked
