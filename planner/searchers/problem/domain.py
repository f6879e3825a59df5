"""What a searcher knows of a search space: its levels and what they cost."""

import math
from collections.abc import Callable
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


DIALS = ("weights", "channels", "top_k")
"""Kinds of sites that resize no component: they thin out what others keep of it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Joint:
    """Sites whose costs hang together; with those of other sites they add up."""

    sites: tuple[int, ...]
    """Positions, ascending."""
    table: NDArray[np.float64]
    """Share of the dense model's cost at each combination of their levels, an axis for each site,
    not decreasing along any; levels may cost alike."""

    def __post_init__(self) -> None:
        assert self.table.ndim == len(self.sites) > 0

    def along(self, site: int, genome: NDArray[np.int_]) -> NDArray[np.float64]:
        """Give the costs of the levels of a site with the others as in a genome, ``(levels,)``."""
        if len(self.sites) == 1:
            return self.table
        chosen = (slice(None) if other == site else genome[other] for other in self.sites)
        return np.asarray(self.table[tuple(chosen)])


@dataclass(frozen=True, kw_only=True, eq=False)
class Cost:
    """One cost, additive over joints, as a share of the dense model's."""

    joints: tuple[Joint, ...]
    """Each site is in one; most are alone in it."""
    fixed: float
    """What no site can remove."""
    limit: float | None = None
    """Most that the budget allows; none where it names none."""

    def __post_init__(self) -> None:
        sites = sorted(site for joint in self.joints for site in joint.sites)
        assert sites == list(range(len(sites)))

    @cached_property
    def tables(self) -> tuple[NDArray[np.float64], ...]:
        """For each site ``(levels,)`` with all others dense, not decreasing."""
        dense = -np.ones(len(self._joint_of), dtype=np.int_)  # the last of each axis
        return tuple(joint.along(site, dense) for site, joint in enumerate(self._joint_of))

    def of(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Add it up, ``(genomes,)`` of ``(genomes, sites)``."""
        sites, strides, starts, offsets = self._places
        places = np.add.reduceat(genomes[..., sites] * strides, starts, axis=-1) + offsets
        return np.asarray(self.fixed + self._row[places].sum(axis=-1))

    def along(self, site: int, genome: NDArray[np.int_]) -> NDArray[np.float64]:
        """What each level of a site costs where the others are as in a genome, ``(levels,)``.

        But for a constant: differences are exact.
        """
        return self._joint_of[site].along(site, genome)

    @cached_property
    def _joint_of(self) -> tuple[Joint, ...]:
        """The joint that each site is in."""
        found = {site: joint for joint in self.joints for site in joint.sites}
        return tuple(found[site] for site in sorted(found))

    @cached_property
    def _row(self) -> NDArray[np.float64]:
        """All tables, one after another."""
        return np.concatenate([joint.table.ravel() for joint in self.joints])

    @cached_property
    def _places(self) -> tuple[NDArray[np.int_], ...]:
        """Where a genome's costs lie in the row of all tables.

        The sites joint by joint, how far a level of each moves, which of them is the first of
        each joint, and where its table begins.
        """
        shapes = [joint.table.shape for joint in self.joints]
        strides = [math.prod(shape[axis + 1 :]) for shape in shapes for axis in range(len(shape))]
        return (
            np.array([site for joint in self.joints for site in joint.sites]),
            np.array(strides),
            np.cumsum([0, *map(len, shapes[:-1])]),
            np.cumsum([0, *map(math.prod, shapes[:-1])]),
        )


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
    sensitivity_tables: tuple[NDArray[np.float64], ...] = ()
    """For each site ``(levels,)``: what the level is guessed to do to the model, not increasing.

    Additive, and only good to begin with. Empty where nothing is known.
    """
    kinds: tuple[str, ...] = ()
    """For each site what it cuts: ``attention``, ``mlp``, ``experts``, the ``shared`` one, a whole
    ``layer``, or one of `DIALS`: what is left of the ``weights``, of the ``channels`` of each
    expert, and the ``top_k`` experts that run for a token.

    Empty where that is not known.
    """
    tilt: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """What each site is guessed to need beyond the common share, ``(sites,)``.

    Empty where no guess says so.
    """

    def __post_init__(self) -> None:
        # all costs part the sites alike
        assert len({tuple(joint.sites for joint in cost.joints) for cost in self.costs}) <= 1

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

        The cost of a step is the one with all else dense: the order is a guess.

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
        tables = zip(self.sensitivity_tables, self.cost_tables, strict=True)
        down = [
            step_rates(-np.diff(sensitivity)[::-1], np.diff(cost)[::-1])
            for sensitivity, cost in tables
        ]
        return np.concatenate([rates[::-1] for rates in down])


def step_rates(
    sensitivities: NDArray[np.float64], savings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Weigh the steps down of a site: harm for what is saved, as they must be taken in turn.

    A level goes only after those above it, so none looks cheaper than they do. Steps that save
    nothing, between levels of equal cost, are one with the next that saves.

    Args:
        sensitivities: Of each step, from the highest level down, ``(steps,)``.
        savings: Of each step, at least 0, ``(steps,)``.

    Returns:
        ``(steps,)``, not decreasing; infinite where nothing is saved any more.
    """
    if not len(savings):
        return np.empty(0)
    saves = savings > _ROUNDING
    joined = np.concatenate([[0], np.cumsum(saves)[:-1]])
    sensitivity, saved = np.bincount(joined, sensitivities), np.bincount(joined, savings)
    rates = np.full(len(saved), np.inf)
    np.divide(sensitivity, saved, out=rates, where=saved > _ROUNDING)
    return np.asarray(np.maximum.accumulate(rates)[joined])
