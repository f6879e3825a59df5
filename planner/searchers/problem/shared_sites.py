"""Sites that joints share: what their levels leave of a domain, and how good that may be."""

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.cost import Cost, Joint
from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

_MOST_COMBINATIONS = 2**14
"""Of levels that shared sites are tried at; of more, every second level of a site is left out."""
_MOST_AT_ONCE = 2**22
"""Numbers that bounds are computed from at a time."""
_MOST_SOLVED = 256
"""Combinations that are solved at most, those of the lowest bounds."""
_HALVINGS = 16
_RANGE = 1e4
"""How far a multiplier may lie from what all sites together lose for what they save."""
_ROUNDING = 1e-9


def joints_given(domain: Domain, given: NDArray[np.int_]) -> list[tuple[Joint, ...]]:
    """Return the joints that are left with the levels of shared sites given.

    Args:
        domain: Sites, levels and costs.
        given: A genome with these levels, ``(sites,)``.

    Returns:
        For each group of other sites its joint in every cost; no two groups share a site.
    """
    if not domain.shared:
        return list(zip(*(cost.joints for cost in domain.costs), strict=True))
    levels = given[None, list(domain.shared)]
    by_cost = [_tables_given(domain, cost, levels) for cost in domain.costs]
    return [
        tuple(Joint(sites=sites, table=tables[sites][0]) for tables in by_cost)
        for sites in by_cost[0]
        if sites
    ]


def promising_levels(
    domain: Domain, sensitivities: Sequence[Floats], limits: Sequence[float | None]
) -> Iterator[tuple[NDArray[np.int_], float]]:
    """Yield levels of the shared sites, those that may lead to the least sensitivity first.

    Args:
        domain: Sites, levels and costs.
        sensitivities: Rise of KL at each level, for each site ``(levels,)``.
        limits: For each cost the most allowed, as a share of the dense model's; none: any amount.

    Yields:
        A genome with these levels, all other sites at their top, ``(sites,)``; and a sum of
        sensitivities that no genome with these levels within the limits is below.
    """
    if not domain.shared:
        yield domain.top_levels, -np.inf
        return
    combinations = _combinations(domain)
    bounds = _bounds(domain, combinations, sensitivities, limits)
    order = np.argsort(bounds, kind="stable")[:_MOST_SOLVED]
    for position in order[np.isfinite(bounds[order])]:
        given = domain.top_levels.copy()
        given[list(domain.shared)] = combinations[position]
        yield given, float(bounds[position])


def _combinations(domain: Domain) -> Genomes:
    """Return combinations of the shared sites' levels, ``(combinations, shared sites)``."""
    levels = [np.arange(domain.top_levels[site] + 1) for site in domain.shared]
    while math.prod(map(len, levels)) > _MOST_COMBINATIONS:
        longest = max(range(len(levels)), key=lambda place: len(levels[place]))
        # from the top down, which is the dense level; the lowest stays too
        thinned = levels[longest][::-2][::-1]
        levels[longest] = np.union1d(levels[longest][:1], thinned)
    return np.stack(np.meshgrid(*levels, indexing="ij"), axis=-1).reshape(-1, len(levels))


def _tables_given(domain: Domain, cost: Cost, levels: Genomes) -> Mapping[tuple[int, ...], Floats]:
    """Return a cost by the other sites of its joints, for each combination of shared levels.

    Returns:
        By sites, none for what the shared ones decide alone, the cost of their levels
        ``(combinations or 1, *levels)``.
    """
    tables: dict[tuple[int, ...], Floats] = {}
    for joint in cost.joints:
        inside = [axis for axis, site in enumerate(joint.sites) if site in domain.shared]
        others = tuple(site for site in joint.sites if site not in domain.shared)
        table = np.moveaxis(joint.table, inside, range(len(inside)))
        if inside:
            columns = [domain.shared.index(joint.sites[axis]) for axis in inside]
            table = table[tuple(levels[:, column] for column in columns)]
        else:
            table = table[None]
        tables[others] = tables[others] + table if others in tables else table
    return tables


def _bounds(
    domain: Domain,
    combinations: Genomes,
    sensitivities: Sequence[Floats],
    limits: Sequence[float | None],
) -> Floats:
    """Return what the sum of sensitivities is at least, ``(combinations,)``; infinite: no fit."""
    limited = [
        (cost, limit)
        for cost, limit in zip(domain.costs, limits, strict=True)
        if limit is not None
    ]
    numbers = sum(
        math.prod(int(domain.top_levels[site]) + 1 for site in sites)
        for sites in _tables_given(domain, domain.costs[0], combinations[:1])
    )
    count = max(1, _MOST_AT_ONCE // numbers)
    bounds = []
    for start in range(0, len(combinations), count):
        levels = combinations[start : start + count]
        columns = zip(domain.shared, levels.T, strict=True)
        given = np.sum([sensitivities[site][column] for site, column in columns], axis=0)
        within = [
            _bound_within(domain, cost, limit, levels, sensitivities) for cost, limit in limited
        ]
        # a plan within all limits is within each
        bounds.append(given + np.max(within, axis=0) if within else given)
    return np.concatenate(bounds)


def _bound_within(
    domain: Domain,
    cost: Cost,
    limit: float,
    levels: Genomes,
    sensitivities: Sequence[Floats],
) -> Floats:
    """Return the Lagrangian bound of all but shared sites' sensitivities, under one limit.

    References:
        Everett, 1963, "Generalized Lagrange Multiplier Method for Solving Problems of Optimum
        Allocation of Resources".
    """
    tables = dict(_tables_given(domain, cost, levels))
    spent = cost.fixed + tables.pop((), np.zeros(1)) - limit + np.zeros(len(levels))
    parts = [
        (reduce(np.add.outer, [sensitivities[site] for site in sites]).ravel(), table)
        for sites, table in tables.items()
    ]
    parts = [(harm, table.reshape(len(table), -1)) for harm, table in parts]

    def relaxed(multipliers: Floats) -> tuple[Floats, Floats]:
        """Return the bound at some multipliers, and what is spent beyond the limit there."""
        bound, beyond = multipliers * spent, spent.copy()
        for harm, table in parts:
            priced = harm + multipliers[:, None] * table
            chosen = priced.argmin(axis=1)
            bound += priced[np.arange(len(chosen)), chosen]
            beyond += np.broadcast_to(table, priced.shape)[np.arange(len(chosen)), chosen]
        return bound, beyond

    harmed = sum(float(np.ptp(harm)) for harm, _ in parts)
    saved = sum(float(np.ptp(table)) for _, table in parts)
    scale = max(harmed, _ROUNDING) / max(saved, _ROUNDING)
    low, high = np.full(len(levels), scale / _RANGE), np.full(len(levels), scale * _RANGE)
    best, _ = relaxed(np.zeros(len(levels)))
    for _ in range(_HALVINGS):
        middle = np.sqrt(low * high)
        bound, beyond = relaxed(middle)
        best = np.maximum(best, bound)
        low, high = np.where(beyond > 0, middle, low), np.where(beyond > 0, high, middle)
    least = spent + sum(table.min(axis=1) for _, table in parts)
    return np.where(least > _ROUNDING, np.inf, best)
