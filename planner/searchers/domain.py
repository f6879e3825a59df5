"""What a searcher knows of a search space: its levels and what they cost."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

_GOLDEN_RATIO = (1 + 5**0.5) / 2
# independent of the golden ratio, so that sites of unequal level counts never step together
_FIRST_OFFSET = 2**0.5
# so that the dense genome, whose cost adds up to about 1, is within a cost of 1
_ROUNDING = 1e-12
# so that a unit that does nothing has a logarithm
_TINY = 1e-30
_UNIFORM_STEPS = 1001


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """One cost, additive over sites, as a share of the dense model's."""

    tables: tuple[NDArray[np.float64], ...]
    """For each site ``(levels,)``, not decreasing."""
    fixed: float
    """What no site can remove."""
    limit: float | None = None
    """Most that the budget allows; none where it names none."""

    def of(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Add it up, ``(genomes,)`` of ``(genomes, sites)``."""
        sites = np.arange(len(self.tables))
        return np.asarray(self.fixed + self.padded[sites, genomes].sum(axis=-1))

    @cached_property
    def padded(self) -> NDArray[np.float64]:
        """The tables in one array, ``(sites, levels)``; no genome reads the padding."""
        widest = max(map(len, self.tables))
        return np.stack([np.pad(table, (0, widest - len(table))) for table in self.tables])


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """The levels of every site, what they cost, and which costs are of interest."""

    top_levels: NDArray[np.int_]
    """``(sites,)``; level 0 is the smallest, the top level is dense."""
    costs: tuple[Cost, ...]
    """The first is the one that a search spreads over."""
    cost_floor: float
    """Lowest share of the first cost that is worth looking at."""
    only_budget: bool = False
    """Whether the best plan within the budget is all that is wanted, and not a front."""
    harm_tables: tuple[NDArray[np.float64], ...] = ()
    """For each site ``(levels,)``: what the level is guessed to do to the model, not increasing.

    Additive, and only good to begin with. Empty where nothing is known.
    """
    kinds: tuple[str, ...] = ()
    """For each site what it resizes: ``attention``, ``mlp``, or the ``layer`` of both.

    Empty where that is not known.
    """

    @property
    def cost_ceiling(self) -> float:
        """Highest share of the first cost that is worth looking at."""
        limit = self.costs[0].limit
        return 1.0 if limit is None or not self.only_budget else limit

    @property
    def allowed(self) -> NDArray[np.float64]:
        """What the budget allows of each cost, infinite where it names none, ``(costs,)``."""
        return np.array([np.inf if cost.limit is None else cost.limit for cost in self.costs])

    @property
    def cost_tables(self) -> tuple[NDArray[np.float64], ...]:
        """Tables of the first cost."""
        return self.costs[0].tables

    def cost(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Share of the dense model's first cost, ``(genomes,)`` of ``(genomes, sites)``."""
        return self.costs[0].of(genomes)

    def prices(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """All costs, ``(genomes, costs)``."""
        return np.stack([cost.of(genomes) for cost in self.costs], axis=-1)

    def affords(self, genomes: NDArray[np.int_]) -> NDArray[np.bool_]:
        """Tell which genomes are within the budget in all costs, ``(genomes,)``."""
        return np.asarray((self.prices(genomes) <= self.allowed + _ROUNDING).all(axis=-1))

    def uniform_within(self) -> NDArray[np.int_]:
        """Give the largest plan within the budget, uniform but for a level, ``(sites,)``."""
        for target in np.linspace(1.0, 0.0, _UNIFORM_STEPS):
            genome = self.uniform(float(target))
            if self.affords(genome[None])[0]:
                break
        return self._topped_up(genome)

    def _topped_up(self, genome: NDArray[np.int_]) -> NDArray[np.int_]:
        """Raise the sites that keep the smallest share by a level while the budget allows it."""
        levels = genome.copy()
        while True:
            raised = levels + np.eye(len(levels), dtype=np.int_)
            room = levels < self.top_levels
            fits = room & self.affords(np.minimum(raised, self.top_levels))
            if not fits.any():
                return levels
            levels[np.argmin(np.where(fits, levels / self.top_levels, np.inf))] += 1

    def uniform(self, target: float) -> NDArray[np.int_]:
        """The largest plan within a cost that keeps the same share of every site that costs."""
        free = np.array([bool(table[-1] == table[0]) for table in self.cost_tables])
        return self.tilted(target, np.where(free, np.inf, 0.0))

    def tilted(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """The largest plan within a cost whose sites keep one share plus their own tilt.

        Args:
            target: Cost not to pass, as a share of the dense model's. Below the cost of the
                smallest plan, the smallest plan is given.
            tilt: ``(sites,)``, what a site keeps beyond the common share.

        Returns:
            One genome, ``(sites,)``.
        """
        sites, shares, _ = self._steps
        return self._filled(target, np.argsort(shares - tilt[sites], kind="stable"))

    def guessed(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """The plan within a cost that drops what is guessed to do least harm for its cost.

        Args:
            target: Cost not to pass, as in `tilted`.
            tilt: ``(sites,)``, added to the logarithm of each site's harm.

        Returns:
            One genome, ``(sites,)``.
        """
        sites, _, _ = self._steps
        rates = []
        for table, cost in zip(self.harm_tables, self.cost_tables, strict=True):
            saved = np.diff(cost)
            # what saves nothing is dropped last
            rate = np.divide(
                -np.diff(table), saved, out=np.full(len(saved), np.inf), where=saved > 0
            )
            # a level goes only after those above it, so none may look cheaper than they do
            rates.append(np.maximum.accumulate(rate[::-1])[::-1])
        worth = np.log(np.concatenate(rates) + _TINY) + tilt[sites]
        return self._filled(target, np.argsort(-worth, kind="stable"))

    def _filled(self, target: float, order: NDArray[np.int_]) -> NDArray[np.int_]:
        """Take steps in an order for as long as the cost allows."""
        sites, _, costs = self._steps
        smallest = self.costs[0].fixed + sum(float(table[0]) for table in self.cost_tables)
        reached = smallest + np.cumsum(costs[order])
        taken = np.searchsorted(reached, target + _ROUNDING, side="right")
        levels = np.bincount(sites[order[:taken]], minlength=len(self.top_levels))
        return levels.astype(np.int_)

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int_], NDArray[np.float64], NDArray[np.float64]]:
        """Every step up of every site: the site, the share at which it comes, its cost."""
        sites = np.repeat(np.arange(len(self.top_levels)), self.top_levels)
        levels = np.concatenate([np.arange(1, top + 1) for top in self.top_levels])
        # where sites round: spread evenly, so that they do not all step at the same share
        offsets = (_FIRST_OFFSET + np.arange(len(self.top_levels)) * _GOLDEN_RATIO) % 1.0
        shares = (levels - offsets[sites]) / self.top_levels[sites]
        return sites, shares, np.concatenate([np.diff(table) for table in self.cost_tables])
