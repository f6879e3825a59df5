"""The descent from the dense model to a target in one cost or several, and its steps."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

ROUNDING = 1e-9
"""Share of the distance that counts as none: a plan that costs as much as the target is there."""


class Descent:
    """How far a genome is on the descent from the dense model to a target.

    Distances are shares of the dense model's. Of several costs each that the dense model has too
    much of is an equal part of it, and what is saved of a cost below its target does not count.

    Args:
        domain: Sites, levels and costs.
        limits: For each cost its target, as a share of the dense model's; none: any amount.
    """

    def __init__(self, domain: Domain, limits: Sequence[float | None]) -> None:
        self.domain = domain
        self._limits = np.array([np.inf if limit is None else limit for limit in limits])
        self._dense = domain.all_costs(domain.top_levels[None])[0]
        excess = self._dense - self._limits
        exceeded = excess > ROUNDING
        # each cost weighs by its inverse excess, so that the dense model's distance is 1
        self._weights = np.divide(
            1.0 / max(1, exceeded.sum()), excess, out=0.0 * self._dense, where=exceeded
        )

    def tables(self, genome: Genomes) -> tuple[Floats, ...]:
        """Return the distance that each site's levels add, ``(levels,)`` each, not decreasing.

        Args:
            genome: ``(sites,)``, the levels of all other sites.
        """
        return tuple(
            np.sum(
                [
                    weight * cost.along(site, genome)
                    for weight, cost in zip(self._weights, self.domain.costs, strict=True)
                ],
                axis=0,
            )
            for site in range(len(genome))
        )

    @property
    def largest_site(self) -> float:
        """Distance covered by dropping the site that saves most, alone."""
        tables = self.tables(self.domain.top_levels)
        return max(float(table[-1] - table[0]) for table in tables)

    @classmethod
    def to_end(cls, domain: Domain) -> Self:
        """Return the descent to the least cost of interest; to the budget if only that counts."""
        if domain.only_budget:
            return cls.to_budget(domain)
        return cls(domain, [domain.cost_floor, *(cost.limit for cost in domain.costs[1:])])

    @classmethod
    def to_budget(cls, domain: Domain) -> Self:
        """Return the descent to the budget; to the lowest cost of interest where there is none."""
        limits = [cost.limit for cost in domain.costs]
        if all(limit is None for limit in limits):
            limits[0] = domain.cost_floor
        return cls(domain, limits)

    def remaining(self, genomes: Genomes) -> Floats:
        """Return the remaining distance, ``(genomes,)``: 1 if dense, 0 within all limits."""
        beyond = np.maximum(self.domain.all_costs(genomes) - self._limits, 0.0) @ self._weights
        return np.where(beyond > ROUNDING, beyond, 0.0)

    def limits_at(self, share: float) -> list[float | None]:
        """Return what is allowed of each cost after a share of the descent, alike for all."""
        return [
            float(dense - share * max(0.0, dense - limit)) if np.isfinite(limit) else None
            for dense, limit in zip(self._dense, self._limits, strict=True)
        ]

    def lowered(
        self, genome: Genomes, sites: Iterable[int], least: float, lowest: int = 0
    ) -> Genomes:
        """Lower each of some sites alone, by a step that brings the genome closer to the target.

        Args:
            genome: ``(sites,)``.
            sites: Positions of the sites.
            least: Distance that a step covers at least, where the rest of the site and of the
                descent is as much. No step is larger than it need be.
            lowest: Level that no site is lowered below.

        Returns:
            ``(genomes, sites)``, in the order of the sites; those where nothing can be saved are
            left out.
        """
        rows = []
        before = float(self.remaining(genome[None])[0])
        for site in sites:
            levels = np.arange(lowest, genome[site])
            saved = before - self.remaining(self.at_levels(genome, site, levels))
            if not len(levels) or saved[0] <= ROUNDING:
                continue
            enough = (saved >= min(least, saved[0]) - ROUNDING) & (saved > ROUNDING)
            rows.append(self.at_levels(genome, site, levels[enough][-1:])[0])
        return np.array(rows, dtype=np.int_).reshape(-1, len(genome))

    def joined(self, genome: Genomes, steps: Genomes, least: float, size: float) -> Genomes:
        """Take several steps at once, from the first on, until a distance is covered.

        Args:
            genome: Where they start, ``(sites,)``.
            steps: As `lowered` returns them, best first, ``(steps, sites)``.
            least: Distance to cover.
            size: The ``least`` of each step, of which the last is no larger than it need be.

        Returns:
            ``(sites,)``.
        """
        reached = genome
        goal = max(0.0, float(self.remaining(genome[None])[0]) - least)
        for row in steps:
            if self.remaining(reached[None])[0] <= goal + ROUNDING:
                break
            ((site,),) = np.nonzero(row != genome)
            # the steps before may have left less to save
            reached = np.concatenate(
                [self.lowered(reached, [int(site)], size, row[site]), [reached]]
            )[0]
        return reached

    @staticmethod
    def at_levels(genome: Genomes, site: int, levels: Genomes) -> Genomes:
        """Return a genome with one site at each of some levels, ``(levels, sites)``."""
        rows = np.tile(genome, (len(levels), 1))
        rows[:, site] = levels
        return rows


def spread_limits(domain: Domain, count: int) -> list[list[float | None]]:
    """Return the limits of the budget, and of others spread evenly down to the lowest of interest.

    Args:
        domain: Levels and costs; only the budget itself where only that counts.
        count: How many others.

    Returns:
        For each the most allowed of each cost, as `additive_best` takes them.
    """
    limits = [Descent.to_budget(domain).limits_at(1.0)]
    if not domain.only_budget:
        descent = Descent.to_end(domain)
        # the dense model, at 0, needs no search
        shares = np.linspace(0.0, 1.0, count + 1)[1:]
        limits += [descent.limits_at(float(share)) for share in shares]
    return limits
