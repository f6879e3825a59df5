"""The plans that a search begins with: best if sensitivities added up, and even ones."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.additive import additive_best, additive_loss
from planner.searchers.problem.cost import Joint
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

_PRIOR_BUDGETS = 4
"""Budgets for which the best plan by the prior alone is scored."""
_LEAST_SHARE = 1 / 32
"""From which ratios of shares count: half a bit for 16."""


class AdditivePlans:
    """Solves the additive model of a domain at its budget, and at others of interest.

    Args:
        domain: Levels, costs, and which budgets are of interest.
    """

    def __init__(self, domain: Domain) -> None:
        self._domain = domain

    def within_budget(self, sensitivities: tuple[Floats, ...]) -> NDArray[np.int_]:
        """Return the best additive plan within the budget."""
        return additive_best(
            self._domain, sensitivities, [cost.limit for cost in self._domain.costs]
        )

    def at(self, sensitivities: tuple[Floats, ...], share: float) -> NDArray[np.int_]:
        """Return the best additive plan at a share of the first cost, or within the budget."""
        if self._domain.only_budget and share <= self._domain.cost_ceiling:
            return self.within_budget(sensitivities)
        return additive_best(
            self._domain, sensitivities, [share, *[None] * (len(self._domain.costs) - 1)]
        )

    def seeds(self, sensitivities: tuple[Floats, ...], count: int) -> Genomes:
        """Return what a search begins with, ``(genomes, sites)``.

        Args:
            sensitivities: For each site ``(levels,)``.
            count: Of even plans, and of additive ones, where not only the budget matters. Where
                number formats are a choice there are no even ones, which waste bits, for what
                formats do nearly adds up; and twice as many of the best plans that cut nothing are
                among the seeds, for what cutting does adds up to more than the sum.
        """
        return np.array([*self._planned(sensitivities, count), *self._by_prior()])

    def _planned(
        self, sensitivities: tuple[Floats, ...], count: int
    ) -> Iterator[NDArray[np.int_]]:
        domain, in_formats = self._domain, self._domain.in_formats
        if domain.only_budget:
            yield domain.even_within()
            yield self.within_budget(sensitivities)
        elif not in_formats.any():
            yield from (domain.even(float(share)) for share in self._shares(count))
            yield from self._at_shares(sensitivities, count)
        elif not in_formats.all():
            yield from self._at_shares(sensitivities, count)
        if in_formats.any():
            yield from self._of_formats_alone(sensitivities, count)

    def _of_formats_alone(
        self, sensitivities: tuple[Floats, ...], count: int
    ) -> Iterator[NDArray[np.int_]]:
        """Yield the best additive plans that cut nothing: within the budget, and of all costs."""
        cuts = ~self._domain.in_formats
        domain = _held(self._domain, cuts)
        plans = AdditivePlans(domain)
        free = tuple(
            table[-1:] if is_cut else table
            for table, is_cut in zip(sensitivities, cuts, strict=True)
        )
        found = []
        if any(cost.limit is not None for cost in domain.costs):
            at_budget = plans.within_budget(free)
            found += [at_budget] if domain.affords(at_budget[None])[0] else []
        if not domain.only_budget:
            found += plans._by_loss(free, 2 * count)
        for plan in found:
            yield np.where(cuts, self._domain.top_levels, plan)

    def _by_loss(self, sensitivities: tuple[Floats, ...], count: int) -> list[NDArray[np.int_]]:
        """Return the best additive plans of shares at which their sums are evenly spread.

        By the root of the sum, so that plans are close where each byte matters, and there are some
        where none does.
        """
        shares = self._shares(2 * count)
        plans = self._at_shares(sensitivities, 2 * count)
        losses = [additive_loss(sensitivities, plan) for plan in plans]
        roots = np.sqrt(np.minimum.accumulate(losses))
        spread = np.linspace(roots[0], roots[-1], count)
        chosen = np.interp(spread, roots[::-1], shares[::-1])
        return [self.at(sensitivities, float(share)) for share in chosen]

    def _by_prior(self) -> list[NDArray[np.int_]]:
        """Return the best plans by the prior, so that the search ends no worse than these."""
        domain = self._domain
        if not domain.sensitivity_tables:
            return []
        # the dense plan where there is no budget
        at_budget = self.within_budget(domain.sensitivity_tables)
        if domain.only_budget:
            return [at_budget]
        return [at_budget, *self._at_shares(domain.sensitivity_tables, _PRIOR_BUDGETS)]

    def _at_shares(self, sensitivities: tuple[Floats, ...], count: int) -> list[NDArray[np.int_]]:
        """Return the best additive plans at so many shares of the first cost."""
        return [self.at(sensitivities, share) for share in self._shares(count)]

    def _shares(self, count: int) -> Floats:
        """Return shares of the first cost from the least of interest to below 1, ``(count,)``.

        By equal ratios where formats are a choice: half the bits cost next to nothing, so that
        most of what is to be found lies below half the bytes.
        """
        floor = self._domain.cost_floor
        if self._domain.in_formats.any():
            return np.geomspace(max(floor, _LEAST_SHARE), 1.0, count, endpoint=False)
        return np.linspace(floor, 1.0, count, endpoint=False)


def _held(domain: Domain, held: NDArray[np.bool_]) -> Domain:
    """Return a domain in which some sites have their top level alone, as far as it reaches."""

    def joint_of(joint: Joint) -> Joint:
        rest = tuple(slice(-1 if held[site] else 0, None) for site in joint.sites)
        return replace(joint, table=joint.table[rest])

    costs = tuple(replace(cost, joints=tuple(map(joint_of, cost.joints))) for cost in domain.costs)
    top_levels = np.where(held, 0, domain.top_levels)
    least = float(costs[0].of(np.zeros_like(top_levels)[None])[0])
    return replace(
        domain,
        top_levels=top_levels,
        costs=costs,
        cost_floor=max(least, domain.cost_floor),
        sensitivity_tables=(),
    )
