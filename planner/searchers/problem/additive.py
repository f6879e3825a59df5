"""The best plan within a budget, were the harm of every site to simply add up."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from planner.searchers.problem.domain import Domain, Joint
from planner.searchers.protocol import Floats, Genomes

_GAP = 1e-4
"""Share of the optimum that may be missed: far below what adding up is wrong by."""
_NODES = 20_000
"""Branches looked at, at most; no limit on time, so that a slow machine gives the same plan."""
_MANY = 2_000
"""Choices beyond which a core of them is solved."""
_CORE = 5
"""Choices of each owner, on average, that a core begins with."""
_GROWTH = 4
_FEASIBLE = 2e-6
"""HiGHS takes a limit that is passed by so little for kept."""
_ROUNDING = 1e-9
_ATTEMPTS = 5


def additive_best(
    domain: Domain, sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Solve the multiple-choice knapsack: one level for each site, least harm, within all limits.

    The sites of a joint are one choice, so that costs are exact.

    Args:
        domain: Sites, levels and costs.
        sensitivities: For each site ``(levels,)``.
        limits: For each cost the most allowed, as a share of the dense model's; none: any amount.

    Returns:
        One genome ``(sites,)``; the smallest one where nothing fits.

    References:
        Sinha & Zoltners, 1979, "The Multiple-Choice Knapsack Problem"; solved by HiGHS (Huangfu &
        Hall, 2018).
    """
    tightened = list(limits)
    for _ in range(_ATTEMPTS):
        genome = _solved(domain, sensitivities, tightened)
        excess = [
            0.0 if limit is None else float(cost.of(genome[None])[0]) - limit
            for cost, limit in zip(domain.costs, limits, strict=True)
        ]
        if genome.sum() == 0 or max(excess) <= _ROUNDING:
            break
        tightened = [
            limit if limit is None or over <= _ROUNDING else limit - over - _FEASIBLE
            for limit, over in zip(tightened, excess, strict=True)
        ]
    return genome


def _solved(
    domain: Domain, sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Give what HiGHS finds; the smallest genome where it finds nothing."""
    choices = [_choices(joints, sensitivities, limits) for joints in _by_sites(domain)]
    sizes = [len(choice.sensitivities) for choice in choices]
    dense = domain.prices(domain.top_levels[None])[0]
    limited = np.array([limit is not None for limit in limits])
    allowed = np.array([limit for limit in limits if limit is not None])
    knapsack = _Knapsack(
        sensitivities=np.concatenate([choice.sensitivities for choice in choices]),
        savings=np.concatenate([choice.savings[:, limited] for choice in choices]),
        owners=np.repeat(np.arange(len(sizes)), sizes),
        rooms=allowed - dense[limited] + _ROUNDING,
    )
    genome = np.zeros(len(domain.top_levels), dtype=np.int_)
    with _quiet():
        taken = knapsack.solved()
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for place in taken:
        choice = choices[knapsack.owners[place]]
        genome[list(choice.sites)] = choice.levels[place - starts[knapsack.owners[place]]]
    return genome


@dataclass(frozen=True, kw_only=True, eq=False)
class _Knapsack:
    """One choice of each owner, least harm, within all limits."""

    sensitivities: Floats
    """``(choices,)``"""
    savings: Floats
    """What each changes of each limited cost, ``(choices, limits)``."""
    owners: NDArray[np.int_]
    """Whose choice each is, ``(choices,)``."""
    rooms: Floats
    """The most that all together may change of each, ``(limits,)``."""

    def solved(self) -> NDArray[np.int_]:
        """Give the positions of the choices to take, one of each owner; none where nothing fits.

        Of many choices only those are looked at that an optimum can hold: one whose reduced cost
        in the relaxation is above the gap between a plan and the relaxation cannot be in a better
        plan.
        """
        everything = np.arange(len(self.sensitivities))
        if len(everything) <= _MANY:
            return self._within(everything)
        relaxed = linprog(
            self.sensitivities,
            A_eq=self._one_each(everything),
            b_eq=np.ones(self.owners[-1] + 1),
            A_ub=self.savings.T if len(self.rooms) else None,
            b_ub=self.rooms if len(self.rooms) else None,
            method="highs",
        )
        if relaxed.x is None:
            return everything[:0]
        reduced = relaxed.lower.marginals
        order = np.argsort(reduced, kind="stable")
        count = _CORE * int(self.owners[-1] + 1)
        while True:
            core = np.sort(order[:count])
            taken = self._within(core)
            if count >= len(order):
                return taken
            gap = float(self.sensitivities[taken].sum()) - relaxed.fun if len(taken) else np.inf
            if gap <= max(reduced[order[count]], _GAP * abs(relaxed.fun)):
                return taken
            count *= _GROWTH

    def _within(self, core: NDArray[np.int_]) -> NDArray[np.int_]:
        """Give the best positions among some ascending ones."""
        constraints = [LinearConstraint(self._one_each(core), 1, 1)]
        if len(self.rooms):
            constraints.append(LinearConstraint(self.savings[core].T, -np.inf, self.rooms))
        found = milp(
            self.sensitivities[core],
            integrality=np.ones(len(core)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": _GAP, "node_limit": _NODES},
        )
        return core[:0] if found.x is None else core[found.x > 0.5]

    def _one_each(self, core: NDArray[np.int_]) -> csr_array:
        owners = self.owners[core]
        return csr_array(
            (np.ones(len(core)), (owners, np.arange(len(core)))),
            shape=(self.owners[-1] + 1, len(core)),
        )


def _by_sites(domain: Domain) -> Iterable[tuple[Joint, ...]]:
    """Give for each part of the sites its joint in every cost."""
    return zip(*(cost.joints for cost in domain.costs), strict=True)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choices:
    """What the sites of a joint may choose together."""

    sites: tuple[int, ...]
    levels: Genomes
    """``(choices, sites)``"""
    savings: Floats
    """What each changes of each cost from the dense model on, ``(choices, costs)``."""
    sensitivities: Floats
    """``(choices,)``"""


def _choices(
    joints: tuple[Joint, ...], sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> _Choices:
    """Give what sites may choose, without what another choice beats in harm and all limits."""
    sites = joints[0].sites
    total = reduce(np.add.outer, [sensitivities[site] for site in sites])
    flat = total.ravel()
    savings = np.column_stack([joint.table.ravel() - joint.table.flat[-1] for joint in joints])
    kept = np.arange(len(flat))
    if len(sites) > 1:  # else there is little to leave out
        limited = [limit is not None for limit in limits]
        points = np.column_stack([flat, savings[:, limited]])
        kept = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return _Choices(
        sites=sites,
        levels=np.column_stack(np.unravel_index(kept, total.shape)),
        savings=savings[kept],
        sensitivities=flat[kept],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep from the terminal what HiGHS writes to it past Python."""
    sys.stdout.flush()
    kept = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
