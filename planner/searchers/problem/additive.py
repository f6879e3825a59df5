"""The best plan within a budget if the sensitivities of all sites simply added up."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, linprog, milp
from scipy.sparse import csr_array

from planner.searchers.problem.cost import Joint
from planner.searchers.problem.domain import Domain
from planner.searchers.problem.shared_sites import joints_given, promising_levels
from planner.searchers.protocol import Floats, Genomes

_GAP = 1e-4
"""Share of the optimum that may be missed: far below the error of adding up."""
_NODES = 20_000
"""Most branch-and-bound nodes; no limit on time, so that a slow machine finds the same plan."""
_MOST_CHOICES = 2_000
"""Choices beyond which only a core of them is solved."""
_CORE_PER_OWNER = 5
"""Choices of each owner, on average, that a core begins with."""
_GROWTH = 4
_FEASIBLE = 2e-6
"""Feasibility tolerance of HiGHS: a limit that is passed by so little counts as met."""
_ROUNDING = 1e-9
_ATTEMPTS = 5


def additive_best(
    domain: Domain, sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Solve the multiple-choice knapsack: one level a site, least sensitivity, within all limits.

    The sites of a joint are one choice, so that costs are exact. Where rounding or the solver's
    tolerance passes a limit, the limit is tightened by the excess and the problem solved again.
    What joints share is tried at the levels that could be best, each with the best of all else.

    Args:
        domain: Sites, levels and costs.
        sensitivities: Rise of KL at each level, for each site ``(levels,)``.
        limits: For each cost the most allowed, as a share of the dense model's; none: any amount.

    Returns:
        One genome ``(sites,)``; the smallest one where nothing fits.

    >>> from planner.searchers.problem.cost import Cost
    >>> halves = np.array([0.0, 0.25, 0.5])
    >>> cost = Cost(joints=tuple(Joint(sites=(s,), table=halves) for s in (0, 1)), fixed=0.0)
    >>> domain = Domain(top_levels=np.array([2, 2]), costs=(cost,), cost_floor=0.0)
    >>> sensitivities = [np.array([0.9, 0.1, 0.0]), np.array([0.8, 0.5, 0.0])]
    >>> additive_best(domain, sensitivities, [0.75]).tolist()
    [1, 2]

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


def additive_loss(sensitivities: Sequence[Floats], genome: NDArray[np.int_]) -> float:
    """Return the sum of what the levels of a genome ``(sites,)`` do, by tables ``(levels,)``."""
    return sum(float(table[level]) for table, level in zip(sensitivities, genome, strict=True))


def _solved(
    domain: Domain, sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Return the best genome within the limits; the smallest one where nothing fits."""
    smallest = np.zeros(len(domain.top_levels), dtype=np.int_)
    best, least = smallest, np.inf
    for given, bound in promising_levels(domain, sensitivities, limits):
        if bound >= least - _GAP * abs(least):
            break
        genome = _solved_given(given, domain, sensitivities, limits)
        if genome is None:
            continue
        total = additive_loss(sensitivities, genome)
        if total < least:
            best, least = genome, total
    return best


def _solved_given(
    given: NDArray[np.int_],
    domain: Domain,
    sensitivities: Sequence[Floats],
    limits: Sequence[float | None],
) -> NDArray[np.int_] | None:
    """Return the solution of HiGHS with shared sites at given levels; None where nothing fits.

    Args:
        given: A genome with these levels, all other sites at their top, ``(sites,)``.
        domain: Sites, levels and costs.
        sensitivities: As `additive_best` takes them.
        limits: Likewise.
    """
    choices = [_choices(joints, sensitivities, limits) for joints in joints_given(domain, given)]
    sizes = [len(choice.sensitivities) for choice in choices]
    dense = domain.all_costs(given[None])[0]
    limited = np.array([limit is not None for limit in limits])
    allowed = np.array([limit for limit in limits if limit is not None])
    knapsack = _Knapsack(
        sensitivities=np.concatenate([choice.sensitivities for choice in choices]),
        savings=np.concatenate([choice.savings[:, limited] for choice in choices]),
        owners=np.repeat(np.arange(len(sizes)), sizes),
        # choices are priced by their change from dense, which is never positive
        allowances=allowed - dense[limited] + _ROUNDING,
    )
    with _quiet():
        positions = knapsack.solved()
    if not len(positions):
        return None
    genome = given.copy()
    starts = np.concatenate([[0], np.cumsum(sizes)])
    for position in positions:
        owner = knapsack.owners[position]
        genome[list(choices[owner].sites)] = choices[owner].levels[position - starts[owner]]
    return genome


@dataclass(frozen=True, kw_only=True, eq=False)
class _Knapsack:
    """One choice of each owner, with the least sum of sensitivities within all limits."""

    sensitivities: Floats
    """``(choices,)``"""
    savings: Floats
    """Change of each limited cost from dense, at most 0, ``(choices, limits)``."""
    owners: NDArray[np.int_]
    """Whose choice each is, ``(choices,)``."""
    allowances: Floats
    """The most that all changes of each limited cost may add up to, ``(limits,)``."""

    def solved(self) -> NDArray[np.int_]:
        """Return the positions of the best choices, one of each owner; none where nothing fits.

        Of many choices only a core is solved, those that an optimum can hold: one whose reduced
        cost in the linear relaxation is above the gap between a plan and the relaxation cannot be
        in a better plan.
        """
        every_choice = np.arange(len(self.sensitivities))
        if len(every_choice) <= _MOST_CHOICES:
            return self._best_among(every_choice)
        relaxed = linprog(
            self.sensitivities,
            A_eq=self._one_each(every_choice),
            b_eq=np.ones(self.owners[-1] + 1),
            A_ub=self.savings.T if len(self.allowances) else None,
            b_ub=self.allowances if len(self.allowances) else None,
            method="highs",
        )
        if relaxed.x is None:
            return every_choice[:0]
        reduced = relaxed.lower.marginals
        order = np.argsort(reduced, kind="stable")
        count = _CORE_PER_OWNER * int(self.owners[-1] + 1)
        while True:
            core = np.sort(order[:count])
            best = self._best_among(core)
            if count >= len(order):
                return best
            gap = float(self.sensitivities[best].sum()) - relaxed.fun if len(best) else np.inf
            # order[count] has the least reduced cost of all choices outside the core: taking any
            # of them raises the relaxation, a lower bound of every plan, by at least that much
            if gap <= max(reduced[order[count]], _GAP * abs(relaxed.fun)):
                return best
            count *= _GROWTH

    def _best_among(self, core: NDArray[np.int_]) -> NDArray[np.int_]:
        """Return the best positions among some ascending ones."""
        constraints = [LinearConstraint(self._one_each(core), 1, 1)]
        if len(self.allowances):
            constraints.append(LinearConstraint(self.savings[core].T, -np.inf, self.allowances))
        solution = milp(
            self.sensitivities[core],
            integrality=np.ones(len(core)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": _GAP, "node_limit": _NODES},
        )
        return core[:0] if solution.x is None else core[solution.x > 0.5]

    def _one_each(self, core: NDArray[np.int_]) -> csr_array:
        """Return which owner each choice of a core counts for, ``(owners, choices)``."""
        owners = self.owners[core]
        return csr_array(
            (np.ones(len(core)), (owners, np.arange(len(core)))),
            shape=(self.owners[-1] + 1, len(core)),
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choices:
    """The combinations of levels that the sites of a joint may have."""

    sites: tuple[int, ...]
    levels: Genomes
    """``(choices, sites)``"""
    savings: Floats
    """Change of each cost from the dense model's, ``(choices, costs)``."""
    sensitivities: Floats
    """``(choices,)``"""


def _choices(
    joints: tuple[Joint, ...], sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> _Choices:
    """Return the choices of a joint that no other dominates in sensitivity and limited costs."""
    sites = joints[0].sites
    total = reduce(np.add.outer, [sensitivities[site] for site in sites])
    flat_total = total.ravel()
    savings = np.column_stack([joint.table.ravel() - joint.table.flat[-1] for joint in joints])
    indices = np.arange(len(flat_total))
    if len(sites) > 1:  # else there is little to leave out
        limited = [limit is not None for limit in limits]
        points = np.column_stack([flat_total, savings[:, limited]])
        indices = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return _Choices(
        sites=sites,
        levels=np.column_stack(np.unravel_index(indices, total.shape)),
        savings=savings[indices],
        sensitivities=flat_total[indices],
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what HiGHS writes to the terminal past Python."""
    sys.stdout.flush()
    terminal = os.dup(1)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
    finally:
        os.dup2(terminal, 1)
        os.close(terminal)
