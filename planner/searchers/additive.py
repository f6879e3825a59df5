"""The exact best plan within a budget, were the harm of every site to simply add up."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from planner.searchers.domain import Domain
from planner.searchers.protocol import Floats

_GAP = 1e-4
"""Share of the optimum that may be missed: far below what adding up is wrong by."""
_SLACK = 1e-12


def additive_best(
    domain: Domain, harms: Sequence[Floats], limits: Sequence[float | None]
) -> np.ndarray[tuple[int], np.dtype[np.int_]]:
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
            constraints.append(LinearConstraint(row, -np.inf, limit - cost.fixed + _SLACK))
    found = milp(
        np.concatenate(harms),
        integrality=np.ones(columns),
        bounds=Bounds(0, 1),
        constraints=constraints,
        options={"mip_rel_gap": _GAP, "time_limit": 5.0},
    )
    if found.x is None:
        return np.zeros(len(sizes), dtype=np.int_)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return np.array([int(np.argmax(found.x[a:b])) for a, b in pairwise(starts)])
