"""Costs of toy models, put together from tables."""

from collections.abc import Iterable

import numpy as np

from planner.searchers.problem.cost import Cost, Joint
from planner.searchers.protocol import Floats


def summed(tables: Iterable[Floats], *, fixed: float, limit: float | None = None) -> Cost:
    """Sites that simply add up, for each ``(levels,)``."""
    joints = tuple(Joint(sites=(site,), table=table) for site, table in enumerate(tables))
    return Cost(joints=joints, fixed=fixed, limit=limit)


def joined(
    *tables: tuple[tuple[int, ...], Floats], fixed: float, limit: float | None = None
) -> Cost:
    """Sites whose costs depend on one another, with the cost of each combination of levels."""
    joints = tuple(Joint(sites=sites, table=table) for sites, table in tables)
    return Cost(joints=joints, fixed=fixed, limit=limit)


def with_sparsity(width: Floats, saved: Floats, shares: Floats) -> Floats:
    """A width and the sparsity of its weights, ``(widths, patterns)``.

    Args:
        width: What each costs with dense weights.
        saved: What each pattern changes of the widest.
        shares: How much of that is left at each width.
    """
    return np.add.outer(width, np.zeros(len(saved))) + np.outer(shares, saved)
