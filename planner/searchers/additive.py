"""The best plan within a budget, were the harm of every site to simply add up."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from planner.searchers.domain import Domain
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
    sizes = domain.top_levels + 1
    columns = int(sizes.sum())
    sites = np.repeat(np.arange(len(sizes)), sizes)
    one_each = csr_array(
        (np.ones(columns), (sites, np.arange(columns))), shape=(len(sizes), columns)
    )
    constraints = [LinearConstraint(one_each, 1, 1)]
    for cost, limit in zip(domain.costs, limits, strict=True):
        if limit is not None:
            row = np.concatenate(cost.tables)[None]
            constraints.append(LinearConstraint(row, -np.inf, limit - cost.fixed + _ROUNDING))
    with _quiet():
        found = milp(
            np.concatenate(harms),
            integrality=np.ones(columns),
            bounds=Bounds(0, 1),
            constraints=constraints,
            options={"mip_rel_gap": _GAP, "node_limit": _NODES},
        )
    if found.x is None:
        return np.zeros(len(sizes), dtype=np.int_)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return np.array([int(np.argmax(found.x[a:b])) for a, b in pairwise(starts)])


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
