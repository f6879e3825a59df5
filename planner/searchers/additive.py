"""The best plan within a budget, were the harm of every site to simply add up."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import moocore
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from planner.searchers.domain import Domain
from planner.searchers.groups import Group, site_groups
from planner.searchers.protocol import Floats

_GAP = 1e-4
"""Share of the optimum that may be missed: far below what adding up is wrong by."""
_NODES = 20_000
"""Branches looked at, at most; no limit on time, so that a slow machine gives the same plan."""
_FEASIBLE = 2e-6
"""HiGHS takes a limit that is passed by so little for kept."""
_ROUNDING = 1e-9
_ATTEMPTS = 5


def additive_best(
    domain: Domain, harms: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Solve the multiple-choice knapsack: one level for each site, least harm, within all limits.

    A width and the sparsity of its weights are one choice, so that costs are exact.

    Args:
        domain: Sites, levels and costs.
        harms: For each site ``(levels,)``.
        limits: For each cost the most allowed, as a share of the dense model's; none: any amount.

    Returns:
        One genome ``(sites,)``; the smallest one where nothing fits.

    References:
        Sinha & Zoltners, 1979, "The Multiple-Choice Knapsack Problem"; solved by HiGHS (Huangfu &
        Hall, 2018).
    """
    tightened = list(limits)
    for _ in range(_ATTEMPTS):
        genome = _solved(domain, harms, tightened)
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
    domain: Domain, harms: Sequence[Floats], limits: Sequence[float | None]
) -> NDArray[np.int_]:
    """Give what HiGHS finds; the smallest genome where it finds nothing."""
    choices = [_choices(group, harms, limits) for group in site_groups(domain)]
    sizes = [len(choice.harms) for choice in choices]
    starts = np.concatenate([[0], np.cumsum(sizes)])
    rows = np.repeat(np.arange(len(sizes)), sizes)
    one_each = csr_array(
        (np.ones(len(rows)), (rows, np.arange(len(rows)))), shape=(len(sizes), len(rows))
    )
    constraints = [LinearConstraint(one_each, 1, 1)]
    savings = np.concatenate([choice.savings for choice in choices])
    dense = domain.prices(domain.top_levels[None])[0]
    for saved, whole, limit in zip(savings.T, dense, limits, strict=True):
        if limit is not None:
            constraints.append(LinearConstraint(saved[None], -np.inf, limit - whole + _ROUNDING))
    with _quiet():
        found = milp(
            np.concatenate([choice.harms for choice in choices]),
            integrality=np.ones(len(rows)),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": _GAP, "node_limit": _NODES},
        )
    genome = np.zeros(len(domain.top_levels), dtype=np.int_)
    if found.x is not None:
        for choice, (first, last) in zip(choices, pairwise(starts), strict=True):
            genome[list(choice.sites)] = choice.levels[int(np.argmax(found.x[first:last]))]
    return genome


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choices(Group):
    """A group, and the harm of each choice, ``(choices,)``."""

    harms: Floats


def _choices(group: Group, harms: Sequence[Floats], limits: Sequence[float | None]) -> _Choices:
    """Give what a group may choose, without what another choice beats in harm and all limits."""
    parts = zip(group.sites, group.levels.T, strict=True)
    total = np.sum([harms[site][levels] for site, levels in parts], axis=0)
    kept = np.arange(len(total))
    if len(group.sites) > 1:  # else there is little to leave out
        limited = [limit is not None for limit in limits]
        points = np.column_stack([total, group.savings[:, limited]])
        kept = np.flatnonzero(moocore.is_nondominated(points, keep_weakly=False))
    return _Choices(
        sites=group.sites,
        levels=group.levels[kept],
        savings=group.savings[kept],
        harms=total[kept],
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
