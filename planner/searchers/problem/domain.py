"""What a searcher knows of a search space: its levels, what they cost, and a sensitivity prior."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.cost import Cost
from search_spaces.space.block_options import FORMAT_DIMENSIONS, SITE_NAMES

_GOLDEN_RATIO = (1 + 5**0.5) / 2
# independent of the golden ratio, so that sites of unequal level counts never step together
_FIRST_OFFSET = 2**0.5
# a quarter of a bit of 16: formats that differ by less are one, whatever lies beside the matrices
_FORMAT_GRID = 64
# so that the dense genome, whose cost adds up to about 1, is within a cost of 1
_ROUNDING = 1e-12
# so that the sensitivity of a unit that does nothing has a logarithm
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class Domain:
    """The levels of every site, what they cost, and which costs are of interest.

    >>> from planner.searchers.problem.cost import Joint
    >>> halves = np.array([0.0, 0.25, 0.5])
    >>> joints = tuple(Joint(sites=(site,), table=halves) for site in (0, 1))
    >>> limited = Cost(joints=joints, fixed=0.0, limit=0.75)
    >>> domain = Domain(top_levels=np.array([2, 2]), costs=(limited,), cost_floor=0.0)
    >>> genomes = np.array([[2, 2], [2, 1], [0, 1]])
    >>> domain.cost(genomes).tolist()
    [1.0, 0.75, 0.25]
    >>> domain.affords(genomes).tolist()
    [False, True, True]
    """

    top_levels: NDArray[np.int_]
    """``(sites,)``; level 0 is the smallest, the top level is dense."""
    costs: tuple[Cost, ...]
    """The first is the one that a search spreads over."""
    cost_floor: float
    """Lowest share of the first cost that is of interest."""
    only_budget: bool = False
    """Whether only the best plan within the budget is asked for, and not a front."""
    sensitivity_tables: tuple[NDArray[np.float64], ...] = ()
    """For each site ``(levels,)``: the rise of KL that the prior expects of the level, not
    increasing.

    Additive, and only good to begin with. Empty where there is no prior.
    """
    kinds: tuple[str, ...] = ()
    """For each site what it prunes: ``attention``, ``mlp``, ``experts``, the ``shared`` one, a
    whole ``layer``; or which option of what is kept it chooses, by a name of `SITE_NAMES`. Empty
    where that is not known."""
    tilt: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    """What each site keeps beyond the common share by the prior, ``(sites,)``; empty where it does
    not say so."""
    shared: tuple[int, ...] = ()
    """Sites that several joints of a cost have in common, ascending; with their levels given, the
    joints have no site in common."""

    def __post_init__(self) -> None:
        # all costs part the sites alike
        joints = {tuple(joint.sites for joint in cost.joints) for cost in self.costs}
        assert len(joints) <= 1
        parts = {
            tuple(sorted(set(sites) - set(self.shared))) for of_cost in joints for sites in of_cost
        }
        own = [site for part in parts for site in part]
        assert len(own) == len(set(own))

    @property
    def cost_ceiling(self) -> float:
        """Highest share of the first cost that is of interest."""
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
        """Return shares of the dense first cost, ``(genomes,)`` of ``(genomes, sites)``."""
        return self.costs[0].of(genomes)

    def all_costs(self, genomes: NDArray[np.int_]) -> NDArray[np.float64]:
        """Return all costs, ``(genomes, costs)``."""
        return np.stack([cost.of(genomes) for cost in self.costs], axis=-1)

    def affords(self, genomes: NDArray[np.int_]) -> NDArray[np.bool_]:
        """Return which genomes are within the budget in all costs, ``(genomes,)``."""
        return np.asarray((self.all_costs(genomes) <= self.allowed + _ROUNDING).all(axis=-1))

    def uniform(self, target: float) -> NDArray[np.int_]:
        """Return the largest plan within a cost that is alike everywhere, ``(sites,)``.

        All sites that cost keep one share. Number formats are not shared out: all are lowered
        together, and before anything else.
        """
        return self._uniform(lambda genome: self._is_within(target, genome))

    def uniform_within(self) -> NDArray[np.int_]:
        """Return the largest plan within the budget, uniform but for a level, ``(sites,)``."""
        lowest = self._uniform(lambda genome: bool(self.affords(genome)))
        return self._topped_up(lowest, ~self._move_together)

    def even(self, target: float) -> NDArray[np.int_]:
        """Return the largest plan within a cost where formats are shared out too, ``(sites,)``.

        Searches start from it, as it has sites of every kind to raise and to lower; without
        formats it is the `uniform` one.
        """
        return self.tilted(target, self.uniform_tilt)

    def even_within(self) -> NDArray[np.int_]:
        """Return the largest plan within the budget, even but for a level, ``(sites,)``."""
        lowest = self.tilted_within(self.uniform_tilt, self.allowed)
        return self._topped_up(lowest, np.ones(len(lowest), dtype=bool))

    def _topped_up(
        self, genome: NDArray[np.int_], may_rise: NDArray[np.bool_]
    ) -> NDArray[np.int_]:
        """Raise the sites that keep the smallest share by a level while the budget allows it."""
        levels = genome.copy()
        while True:
            raised = levels + np.eye(len(levels), dtype=np.int_)
            room = may_rise & (levels < self.top_levels)
            fits = room & self.affords(np.minimum(raised, self.top_levels))
            if not fits.any():
                return levels
            levels[np.argmin(np.where(fits, levels / self.top_levels, np.inf))] += 1

    def tilted(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """Return the largest plan within a cost whose sites keep one share plus their own tilt.

        Args:
            target: Cost not to pass, as a share of the dense model's. Below the cost of the
                smallest plan, the smallest plan is returned.
            tilt: ``(sites,)``, what a site keeps beyond the common share.

        Returns:
            One genome, ``(sites,)``.
        """
        return self._filled(self._order(tilt), lambda genome: self._is_within(target, genome))

    def tilted_within(
        self, tilt: NDArray[np.float64], limits: NDArray[np.float64]
    ) -> NDArray[np.int_]:
        """Do as `tilted`, within a limit on each cost ``(costs,)``, infinite if there is none."""
        return self._filled(
            self._order(tilt),
            lambda genome: bool((self.all_costs(genome) <= limits + _ROUNDING).all()),
        )

    def by_prior(self, target: float, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """Return the plan within a cost that prunes the least sensitive levels for their cost.

        Sensitivities are the prior's, and the cost of a step is the one with all else dense.

        Args:
            target: Cost not to pass, as in `tilted`.
            tilt: ``(sites,)``, added to the logarithm of each site's sensitivity.

        Returns:
            One genome, ``(sites,)``.
        """
        sites, _ = self._steps
        log_rates = np.log(self._rates + _TINY) + tilt[sites]
        order = np.argsort(-log_rates, kind="stable")
        return self._filled(order, lambda genome: self._is_within(target, genome))

    def _is_within(self, target: float, genome: NDArray[np.int_]) -> bool:
        return bool(self.cost(genome) <= target + _ROUNDING)

    def _order(self, tilt: NDArray[np.float64]) -> NDArray[np.int_]:
        """Return the order of the steps by the common share at which they are due."""
        sites, shares = self._steps
        return np.argsort(shares - tilt[sites], kind="stable")

    def _uniform(self, fits: Callable[[NDArray[np.int_]], bool]) -> NDArray[np.int_]:
        """Fill a plan by one share of all sites, then raise the formats of all, alike in bits."""
        sites, shares = self._steps
        held = np.concatenate([t[1:] / (t[-1] or 1.0) for t in self.cost_tables])
        bits = 1.0 + np.round(held * _FORMAT_GRID) / _FORMAT_GRID
        # shares are at most 1
        due = np.where(self._move_together[sites], bits, shares - self.uniform_tilt[sites])
        order = np.argsort(due, kind="stable")
        ordered = due[order]
        is_within = (ordered[1:] > 1.0) & (ordered[1:] == ordered[:-1])
        stops = np.flatnonzero(np.concatenate([[True], ~is_within, [True]]))
        return self._filled(order, fits, stops)

    def _filled(
        self,
        order: NDArray[np.int_],
        fits: Callable[[NDArray[np.int_]], bool],
        stops: NDArray[np.int_] | None = None,
    ) -> NDArray[np.int_]:
        """Take steps in an order for as long as the plan fits; each step costs more, or no less.

        Costs do not decrease along the order, so that bisection finds the last plan that fits.

        Args:
            order: Of the steps.
            fits: Whether a plan does.
            stops: After how many steps a plan may be left, ascending from 0; None: after any.
        """
        sites, _ = self._steps
        stops = np.arange(len(order) + 1) if stops is None else stops
        low, high = 0, len(stops) - 1
        while low < high:
            middle = (low + high + 1) // 2
            if fits(self._after_steps(sites[order[: stops[middle]]])):
                low = middle
            else:
                high = middle - 1
        return self._after_steps(sites[order[: stops[low]]])

    def _after_steps(self, sites: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return the plan after a step up of each of some sites, ``(sites,)``."""
        return np.bincount(sites, minlength=len(self.top_levels)).astype(np.int_)

    @cached_property
    def uniform_tilt(self) -> NDArray[np.float64]:
        """No tilt, except that sites that cost nothing are kept dense, ``(sites,)``."""
        free = np.array([bool(table[-1] == table[0]) for table in self.cost_tables])
        return np.where(free, np.inf, 0.0)

    @cached_property
    def in_formats(self) -> NDArray[np.bool_]:
        """Which sites choose a number format, ``(sites,)``."""
        kinds = np.array(self.kinds or [""] * len(self.top_levels))
        return np.isin(kinds, [SITE_NAMES[dimension] for dimension in FORMAT_DIMENSIONS])

    def by_site(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """Part values of all levels, site by site, into ``(levels,)`` of each."""
        return np.split(values, np.cumsum(self.top_levels + 1)[:-1])

    @cached_property
    def _move_together(self) -> NDArray[np.bool_]:
        """Which sites choose a number format that costs, ``(sites,)``."""
        return np.asarray(self.in_formats & np.isfinite(self.uniform_tilt))

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int_], NDArray[np.float64]]:
        """Every step up of every site: the site, and the share at which it is due."""
        sites = np.repeat(np.arange(len(self.top_levels)), self.top_levels)
        levels = np.concatenate([np.arange(1, top + 1) for top in self.top_levels])
        # where sites round: spread evenly, so that they do not all step at the same share
        offsets = (_FIRST_OFFSET + np.arange(len(self.top_levels)) * _GOLDEN_RATIO) % 1.0
        return sites, (levels - offsets[sites]) / self.top_levels[sites]

    @cached_property
    def _rates(self) -> NDArray[np.float64]:
        """Of every step, the prior's sensitivity to undoing it for each cost that this saves."""
        tables = zip(self.sensitivity_tables, self.cost_tables, strict=True)
        down = [
            step_rates(-np.diff(sensitivity)[::-1], np.diff(cost)[::-1])
            for sensitivity, cost in tables
        ]
        return np.concatenate([rates[::-1] for rates in down])


def step_rates(
    sensitivities: NDArray[np.float64], savings: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the sensitivity for what is saved of the steps down a site, taken in turn.

    A level is pruned only after those above it, so none looks cheaper than they do. Steps that
    save nothing, between levels of equal cost, are one with the next that saves.

    Args:
        sensitivities: Of each step, from the highest level down, ``(steps,)``.
        savings: Of each step, at least 0, ``(steps,)``.

    Returns:
        ``(steps,)``, not decreasing; infinite where nothing is saved any more.

    >>> step_rates(np.array([0.25, 0.5, 0.25]), np.array([0.125, 0.0, 0.125])).tolist()
    [2.0, 6.0, 6.0]
    """
    if not len(savings):
        return np.empty(0)
    saves = savings > _ROUNDING
    # numbered by the savings before it, a step that saves nothing joins the next that does
    groups = np.concatenate([[0], np.cumsum(saves)[:-1]])
    sensitivity, saved = np.bincount(groups, sensitivities), np.bincount(groups, savings)
    rates = np.full(len(saved), np.inf)
    np.divide(sensitivity, saved, out=rates, where=saved > _ROUNDING)
    return np.asarray(np.maximum.accumulate(rates)[groups])
