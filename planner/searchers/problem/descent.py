"""The way from the dense model down to a target in one cost or several, and the steps on it."""

from collections.abc import Iterable, Sequence
from typing import Self

import numpy as np

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

ROUNDING = 1e-9
"""Share of the way that is none: a plan that costs as much as the target has arrived."""


class Descent:
    """How far a genome has come from the dense model to a target.

    Of several costs each that the dense model has too much of is an equal part of the way, and
    what is saved of a cost below its target counts for nothing.

    Args:
        domain: Sites, levels and costs.
        limits: For each cost its target, as a share of the dense model's; none: any amount.
    """

    def __init__(self, domain: Domain, limits: Sequence[float | None]) -> None:
        self.domain = domain
        self._limits = np.array([np.inf if limit is None else limit for limit in limits])
        self._dense = domain.prices(domain.top_levels[None])[0]
        excess = self._dense - self._limits
        far = excess > ROUNDING
        # to each cost its part, so that the dense model has all of the way before it
        self._weights = np.divide(
            1.0 / max(1, far.sum()), excess, out=0.0 * self._dense, where=far
        )

    def tables(self, genome: Genomes) -> tuple[Floats, ...]:
        """For each site the part of the way that it stands for, ``(levels,)``, not decreasing.

        Args:
            genome: ``(sites,)``, where all other sites stand.
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
        """The part of the way that dropping the site that saves most comes to, alone."""
        tables = self.tables(self.domain.top_levels)
        return max(float(table[-1] - table[0]) for table in tables)

    @classmethod
    def to_end(cls, domain: Domain) -> Self:
        """The way to the lowest cost worth looking at; only to the budget where that is all."""
        if domain.only_budget:
            return cls.to_budget(domain)
        return cls(domain, [domain.cost_floor, *(cost.limit for cost in domain.costs[1:])])

    @classmethod
    def to_budget(cls, domain: Domain) -> Self:
        """The way to the budget; to the lowest cost worth looking at where there is none."""
        limits = [cost.limit for cost in domain.costs]
        if all(limit is None for limit in limits):
            limits[0] = domain.cost_floor
        return cls(domain, limits)

    def left(self, genomes: Genomes) -> Floats:
        """The part of the way that is left, ``(genomes,)``: 1 if dense, 0 within all limits."""
        beyond = np.maximum(self.domain.prices(genomes) - self._limits, 0.0) @ self._weights
        return np.where(beyond > ROUNDING, beyond, 0.0)

    def limits_at(self, share: float) -> list[float | None]:
        """What of each cost is allowed after a share of the way, for each cost alike."""
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
            least: The part of the way that a step saves at least, where what is left of the site
                and of the way is as much. No step is larger than it need be.
            lowest: Level that no site goes below.

        Returns:
            ``(genomes, sites)``, in the order of the sites; those where nothing can be saved are
            left out.
        """
        found = []
        before = float(self.left(genome[None])[0])
        for site in sites:
            levels = np.arange(lowest, genome[site])
            saved = before - self.left(self.at_levels(genome, site, levels))
            if not len(levels) or saved[0] <= ROUNDING:
                continue
            enough = (saved >= min(least, saved[0]) - ROUNDING) & (saved > ROUNDING)
            found.append(self.at_levels(genome, site, levels[enough][-1:])[0])
        return np.array(found, dtype=np.int_).reshape(-1, len(genome))

    def joined(self, genome: Genomes, steps: Genomes, least: float, size: float) -> Genomes:
        """Take several steps at once, from the first on, until a part of the way is saved.

        Args:
            genome: Where they start, ``(sites,)``.
            steps: As `lowered` gives them, best first, ``(steps, sites)``.
            least: The part of the way to save.
            size: The ``least`` of each step, of which the last is no larger than it need be.

        Returns:
            ``(sites,)``.
        """
        reached = genome
        goal = max(0.0, float(self.left(genome[None])[0]) - least)
        for row in steps:
            if self.left(reached[None])[0] <= goal + ROUNDING:
                break
            ((site,),) = np.nonzero(row != genome)
            # what was taken before may have left less to save
            reached = np.concatenate(
                [self.lowered(reached, [int(site)], size, row[site]), [reached]]
            )[0]
        return reached

    @staticmethod
    def at_levels(genome: Genomes, site: int, levels: Genomes) -> Genomes:
        """A genome ``(sites,)`` with one site at each of some levels, ``(levels, sites)``."""
        rows = np.tile(genome, (len(levels), 1))
        rows[:, site] = levels
        return rows
