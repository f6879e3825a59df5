"""What a searcher knows of a search space: its levels and what they cost."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Pair:
    """Two sites of one sub-block whose savings multiply: its width and its weights' sparsity."""

    width: int
    """Position of the site that narrows or drops it."""
    sparsity: int
    """Position of the site that thins out its weights; in no other pair."""
    shares: NDArray[np.float64]
    """Share of the sparsity's saving that is left at each level of the width, ``(levels,)``: 1 at
    the top, and 0 where the sub-block is dropped."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """One cost, additive over sites but for pairs, as a share of the dense model's."""

    tables: tuple[NDArray[np.float64], ...]
    """For each site ``(levels,)`` with all others dense, not decreasing; levels may cost alike."""
    fixed: float
    """What no site can remove."""
    limit: float | None = None
    """Most that the budget allows; none where it names none."""
    pairs: tuple[Pair, ...] = ()
    """Sites that do not add up: what sparsity saves shrinks with the width."""

    def of(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Add it up, ``(genomes,)`` of ``(genomes, sites)``."""
        sites = np.arange(len(self.tables))
        alone = self._padded[sites, genomes]
        total = self.fixed + alone.sum(axis=-1)
        if not self.pairs:
            return np.asarray(total)
        widths, thinned, shares = self._paired
        dense = np.array([self.tables[site][-1] for site in thinned])
        left = shares[np.arange(len(shares)), genomes[..., widths]]
        return np.asarray(total + ((alone[..., thinned] - dense) * (left - 1.0)).sum(axis=-1))

    def along(self, site: int, genome: NDArray[np.int_]) -> NDArray[np.float64]:
        """What each level of a site costs where the others are as in a genome, ``(levels,)``.

        But for a constant: differences are exact.
        """
        table = self.tables[site]
        for pair in self._pairs_of.get(site, ()):
            if site == pair.sparsity:
                left = pair.shares[genome[pair.width]]
                table = table[-1] + (table - table[-1]) * left
            else:
                weights = self.tables[pair.sparsity]
                saved = weights[genome[pair.sparsity]] - weights[-1]
                table = table + saved * (pair.shares - 1.0)
        return table

    @cached_property
    def _padded(self) -> NDArray[np.float64]:
        """The tables in one array, ``(sites, levels)``; no genome reads the padding."""
        return _stacked(self.tables)

    @cached_property
    def _paired(self) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.float64]]:
        """Of each pair the width, the sparsity and the shares, padded."""
        widths = np.array([pair.width for pair in self.pairs])
        thinned = np.array([pair.sparsity for pair in self.pairs])
        return widths, thinned, _stacked([pair.shares for pair in self.pairs])

    @cached_property
    def _pairs_of(self) -> dict[int, tuple[Pair, ...]]:
        """The pairs that each site is in."""
        found: dict[int, tuple[Pair, ...]] = {}
        for pair in self.pairs:
            for site in (pair.width, pair.sparsity):
                found[site] = (*found.get(site, ()), pair)
        return found


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
    """For each site what it cuts: ``attention``, ``mlp``, the ``layer`` of both, or ``weights``
    where it thins these out and resizes nothing.

    Empty where that is not known.
    """
    tilt: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """What each site is guessed to need beyond the common share, ``(sites,)``.

    Empty where no guess says so.
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
        return self._topped_up(self.tilted_within(self.even, self.allowed))

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
        return self.tilted(target, self.even)

    def tilted(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """The largest plan within a cost whose sites keep one share plus their own tilt.

        Args:
            target: Cost not to pass, as a share of the dense model's. Below the cost of the
                smallest plan, the smallest plan is given.
            tilt: ``(sites,)``, what a site keeps beyond the common share.

        Returns:
            One genome, ``(sites,)``.
        """
        return self._filled(self._order(tilt), lambda genome: self._is_within(target, genome))

    def tilted_within(
        self, tilt: NDArray[np.float64], limits: NDArray[np.float64]
    ) -> NDArray[np.int_]:
        """As `tilted`, within a limit on each cost ``(costs,)``, infinite where there is none."""
        return self._filled(
            self._order(tilt),
            lambda genome: bool((self.prices(genome) <= limits + _ROUNDING).all()),
        )

    def guessed(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """The plan within a cost that drops what is guessed to do least harm for its cost.

        Of pairs, the cost of a step is the one with all else dense: the order is a guess.

        Args:
            target: Cost not to pass, as in `tilted`.
            tilt: ``(sites,)``, added to the logarithm of each site's harm.

        Returns:
            One genome, ``(sites,)``.
        """
        sites, _ = self._steps
        worth = np.log(self._rates + _TINY) + tilt[sites]
        order = np.argsort(-worth, kind="stable")
        return self._filled(order, lambda genome: self._is_within(target, genome))

    def _is_within(self, target: float, genome: NDArray[np.int_]) -> bool:
        return bool(self.cost(genome) <= target + _ROUNDING)

    def _order(self, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """Order the steps by the common share at which they come."""
        sites, shares = self._steps
        return np.argsort(shares - tilt[sites], kind="stable")

    def _filled(
        self, order: NDArray[np.int_], fits: Callable[[NDArray[np.int_]], bool]
    ) -> NDArray[np.int_]:
        """Take steps in an order for as long as the plan fits, which costs more with each."""
        sites, _ = self._steps
        low, high = 0, len(order)
        while low < high:
            middle = (low + high + 1) // 2
            if fits(self._taken(sites[order[:middle]])):
                low = middle
            else:
                high = middle - 1
        return self._taken(sites[order[:low]])

    def _taken(self, sites: NDArray[np.int_]) -> NDArray[np.int_]:
        """The plan after a step up of each of some sites, ``(sites,)``."""
        return np.bincount(sites, minlength=len(self.top_levels)).astype(np.int_)

    @cached_property
    def even(self) -> NDArray[np.float64]:
        """No tilt, but what costs nothing is kept whole, ``(sites,)``."""
        free = np.array([bool(table[-1] == table[0]) for table in self.cost_tables])
        return np.where(free, np.inf, 0.0)

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
        """Every step up of every site: the site, and the share at which it comes."""
        sites = np.repeat(np.arange(len(self.top_levels)), self.top_levels)
        levels = np.concatenate([np.arange(1, top + 1) for top in self.top_levels])
        # where sites round: spread evenly, so that they do not all step at the same share
        offsets = (_FIRST_OFFSET + np.arange(len(self.top_levels)) * _GOLDEN_RATIO) % 1.0
        return sites, (levels - offsets[sites]) / self.top_levels[sites]

    @cached_property
    def _rates(self) -> NDArray[np.float64]:
        """Of every step, what dropping it is guessed to harm for each cost that it saves."""
        tables = zip(self.harm_tables, self.cost_tables, strict=True)
        down = [step_rates(-np.diff(harm)[::-1], np.diff(cost)[::-1]) for harm, cost in tables]
        return np.concatenate([rates[::-1] for rates in down])


def step_rates(harms: NDArray[np.float64], savings: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weigh the steps down of a site: harm for what is saved, as they must be taken in turn.

    A level goes only after those above it, so none looks cheaper than they do. Steps that save
    nothing, between levels of equal cost, are one with the next that saves.

    Args:
        harms: Of each step, from the highest level down, ``(steps,)``.
        savings: Of each step, at least 0, ``(steps,)``.

    Returns:
        ``(steps,)``, not decreasing; infinite where nothing is saved any more.
    """
    if not len(savings):
        return np.empty(0)
    saves = savings > _ROUNDING
    joined = np.concatenate([[0], np.cumsum(saves)[:-1]])
    harm, saved = np.bincount(joined, harms), np.bincount(joined, savings)
    rates = np.full(len(saved), np.inf)
    np.divide(harm, saved, out=rates, where=saved > _ROUNDING)
    return np.asarray(np.maximum.accumulate(rates)[joined])


def _stacked(tables: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Tables of unequal length in one array, ``(tables, longest)``."""
    longest = max(map(len, tables))
    return np.stack([np.pad(table, (0, longest - len(table))) for table in tables])
