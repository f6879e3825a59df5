"""What slopes say: which levels to move from a plan, and how a plan is led from dense down."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from planner.searchers.domain import Domain
from planner.searchers.protocol import Floats, Genomes

_MOST_MOVES = 24
"""Moves up, and moves down, that are paired with each other."""


def promises(
    domain: Domain, genome: NDArray[np.int_], slopes: Floats, harms: Sequence[Floats]
) -> tuple[Floats, ...]:
    """Guess the change of KL by a move to each level of each site, for each site ``(levels,)``.

    Restoring is guessed by the gradient alone; dropping by the mean of the gradient and of the
    single-site pass, whose size is brought to the gradient's: near dense the gradient of what is
    kept vanishes, and far from it the single sites tell too little.

    Args:
        domain: Sites and levels.
        genome: Where the slopes were taken, ``(sites,)``.
        slopes: As an answer gives them, ``(levels of all sites,)``.
        harms: Tables of the single-site pass, for each site ``(levels,)``.
    """
    by_site = np.split(slopes, np.cumsum(domain.top_levels + 1)[:-1])
    alone = [table - table[level] for table, level in zip(harms, genome, strict=True)]
    costly = sum(float(np.maximum(own[0], 0.0)) for own in by_site)
    known = sum(float(own[0]) for own in alone)
    scale = costly / known if known > 0 and costly > 0 else 1.0
    found = []
    for level, gradient, single in zip(genome, by_site, alone, strict=True):
        lower = np.arange(len(gradient)) < level
        mixed = (gradient + np.maximum(scale, 1.0) * single) / 2
        found.append(np.where(lower, np.maximum(mixed, 0.0), gradient))
    return tuple(found)


def neighbours(
    domain: Domain, genome: NDArray[np.int_], promised: Sequence[Floats]
) -> tuple[Genomes, Floats]:
    """Give genomes one or two moves away, and what their moves promise together.

    Args:
        domain: Sites and levels.
        genome: ``(sites,)``
        promised: As `promises` gives it.

    Returns:
        ``(genomes, sites)``, and the change of KL, ``(genomes,)``.
    """
    ups, downs = [], []
    for site, (table, level) in enumerate(zip(promised, genome, strict=True)):
        cost = domain.cost_tables[site]
        for other in range(len(table)):
            paid = abs(float(cost[other] - cost[level]))
            if other != level and paid > 0:
                move = (float(table[other]) / paid, site, other, float(table[other]))
                (ups if other > level else downs).append(move)
    ups, downs = sorted(ups)[:_MOST_MOVES], sorted(downs)[:_MOST_MOVES]
    chosen = [[move] for move in ups + downs]
    chosen += [[up, down] for up in ups for down in downs if up[1] != down[1]]
    rows, changes = np.repeat(genome[None], len(chosen), axis=0), np.zeros(len(chosen))
    for index, moves in enumerate(chosen):
        for _, site, other, change in moves:
            rows[index, site] = other
            changes[index] += change
    return rows, changes
