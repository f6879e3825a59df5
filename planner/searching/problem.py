"""The problem of a search: which costs it minimises, within what limits, how far down."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np

from planner.preparation.prepared_model import PreparedModel
from planner.searchers.problem.domain import Domain
from planner.settings.budget import Budget, relative_cost
from planner.settings.search import Focus, SearchSettings

_LOOK_BELOW = 0.25
"""How far below a budget a search looks, as a share of what the budget removes."""
_LOOK_JUST_BELOW = 0.05
"""The same if only the budget matters: as far as the steps between levels may miss it."""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a search is asked, made once and read by all of its parts.

    >>> asked = Problem(
    ...     budget=Budget.parse("params<=0.6x,kl<=0.1"),
    ...     cost_names=("params", "kv"),
    ...     dense={"params": 100.0, "kv": 8.0},
    ...     smallest={"params": 20.0, "kv": 0.0},
    ... )
    >>> asked.limits, asked.floor, asked.allowed
    ({'params': 0.6, 'kv': None}, 0.5, ())
    """

    budget: Budget
    """What plans must be within."""
    focus: Focus = "front"
    cost_names: tuple[str, ...]
    """What is traded against quality; a search spreads its front over the first."""
    dense: Mapping[str, float]
    """Costs of the dense model."""
    smallest: Mapping[str, float]
    """Costs of the smallest plan."""

    @classmethod
    def of(cls, settings: SearchSettings, prepared: PreparedModel) -> Self:
        """Return the problem that settings set for a model.

        If the budget names no cost, parameters are minimised: those that are not zero where
        sparsity can make some zero.

        Raises:
            BudgetError: If no plan can meet the budget.
        """
        budget = settings.budget or Budget()
        problem = cls(
            budget=budget,
            focus=settings.focus,
            cost_names=budget.cost_names or (settings.space.cost,),
            dense=prepared.dense.costs.dense(),
            smallest=prepared.smallest_costs(),
        )
        budget.check_reachable(problem.dense, problem.smallest)
        return problem

    def within(self, budget: Budget) -> "Problem":
        """Return the same problem under another budget."""
        return replace(self, budget=budget)

    @property
    def only_budget(self) -> bool:
        """Whether only the best plan within the budget matters."""
        return self.focus == "budget"

    @cached_property
    def limits(self) -> Mapping[str, float | None]:
        """The share that the budget allows of each cost, none where it does not limit it."""
        return {name: self.budget.share(name, self.dense) for name in self.cost_names}

    @cached_property
    def allowed(self) -> tuple[float, ...]:
        """The share allowed of each cost, infinite without a limit; empty if all plans matter."""
        shares = self.limits.values() if self.only_budget else ()
        return tuple(np.inf if share is None else share for share in shares)

    @cached_property
    def floor(self) -> float:
        """The lowest share of the first cost worth looking at: a little below the budget."""
        name, share = next(iter(self.limits.items()))
        lowest = relative_cost(name, self.smallest[name], self.dense)
        if share is None:
            return lowest
        below = _LOOK_JUST_BELOW if self.only_budget else _LOOK_BELOW
        return max(lowest, share - below * (1.0 - share))

    def domain(self, prepared: PreparedModel) -> Domain:
        """Return levels, costs and limits as searchers read them."""
        domain = prepared.make_domain(self.limits, self.floor, only_budget=self.only_budget)
        if not self.only_budget:
            return domain
        # plans within another cost's limit may all lie below the floor
        lowest = float(domain.cost(domain.even_within()[None])[0])
        return replace(domain, cost_floor=min(self.floor, lowest))
