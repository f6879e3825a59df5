"""What slopes say: which levels to move from a plan, and how a plan is led from dense down."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.protocol import Floats, Genomes

_MOST_MOVES = 24
"""Moves up, and moves down, that are paired with each other."""
_FORBIDDEN = 1e4
"""Nats a token, more than any plan can lose."""
_ALIKE = 1e-12
"""Costs that differ by so little are one."""
_MOST_SWAPS = 24
"""Pairs of moves that are joined two by two."""


def promises(
    domain: Domain, genome: NDArray[np.int_], slopes: Floats, sensitivities: Sequence[Floats]
) -> tuple[Floats, ...]:
    """Guess the change of KL by a move to each level of each site, for each site ``(levels,)``.

    Restoring is guessed by the gradient alone; dropping by the mean of the gradient and of the
    single-site pass, whose size is brought to the gradient's: near dense the gradient of what is
    kept vanishes, and far from it the single sites tell too little.

    Args:
        domain: Sites and levels.
        genome: Where the slopes were taken, ``(sites,)``.
        slopes: As an answer gives them, ``(levels of all sites,)``.
        sensitivities: Tables of the single-site pass, for each site ``(levels,)``.
    """
    by_site = np.split(slopes, np.cumsum(domain.top_levels + 1)[:-1])
    alone = [table - table[level] for table, level in zip(sensitivities, genome, strict=True)]
    costly = sum(float(np.maximum(own[0], 0.0)) for own in by_site)
    known = sum(float(own[0]) for own in alone)
    scale = costly / known if known > 0 and costly > 0 else 1.0
    found = []
    for level, gradient, single in zip(genome, by_site, alone, strict=True):
        lower = np.arange(len(gradient)) < level
        mixed = (gradient + np.maximum(scale, 1.0) * single) / 2
        found.append(np.where(lower, np.maximum(mixed, 0.0), gradient))
    return tuple(found)


def never_raised(promised: Sequence[Floats], genome: NDArray[np.int_]) -> tuple[Floats, ...]:
    """Forbid every level above those of a genome ``(sites,)``."""
    return tuple(
        np.where(np.arange(len(table)) > level, _FORBIDDEN, table)
        for table, level in zip(promised, genome, strict=True)
    )


def neighbours(
    domain: Domain, genome: NDArray[np.int_], promised: Sequence[Floats]
) -> tuple[Genomes, Floats]:
    """Give genomes a few moves away, and what their moves promise together.

    Args:
        domain: Sites and levels.
        genome: ``(sites,)``
        promised: As `promises` gives it.

    Returns:
        ``(genomes, sites)``, and the change of KL, ``(genomes,)``.
    """
    ups, downs = _moves(domain, genome, promised)
    swaps = [(up, down) for up in ups for down in downs if up.site != down.site]
    best = sorted(swaps, key=lambda swap: swap[0].change + swap[1].change)[:_MOST_SWAPS]
    chosen: list[tuple[_Move, ...]] = [(move,) for move in ups + downs]
    chosen += swaps
    chosen += [one + other for one, other in combinations(best, 2) if _apart(one + other)]
    rows, changes = np.repeat(genome[None], len(chosen), axis=0), np.zeros(len(chosen))
    for index, moves in enumerate(chosen):
        for move in moves:
            rows[index, move.site] = move.level
            changes[index] += move.change
    return rows, changes


@dataclass(frozen=True)
class _Move:
    site: int
    level: int
    change: float
    """Of KL, as promised."""
    paid: float
    """Change of the first cost by this move alone."""


def _moves(
    domain: Domain, genome: NDArray[np.int_], promised: Sequence[Floats]
) -> tuple[list[_Move], list[_Move]]:
    """Give the moves up and the moves down that promise most for what they cost."""
    costs = [domain.costs[0].along(site, genome) for site in range(len(genome))]
    moves = [
        _Move(site, other, float(table[other]), float(cost[other] - cost[level]))
        for site, (table, cost, level) in enumerate(zip(promised, costs, genome, strict=True))
        for other in range(len(table))
        if abs(cost[other] - cost[level]) > _ALIKE
    ]
    moves.sort(key=lambda move: move.change / abs(move.paid))
    ups = [move for move in moves if move.paid > 0]
    downs = [move for move in moves if move.paid < 0]
    return ups[:_MOST_MOVES], downs[:_MOST_MOVES]


def _apart(moves: Sequence[_Move]) -> bool:
    return len({move.site for move in moves}) == len(moves)
