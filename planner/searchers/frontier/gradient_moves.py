"""Moves by gradients: which levels to change at a plan, and the way from dense down."""

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


def predicted_changes(
    domain: Domain, genome: NDArray[np.int_], gradient: Floats, sensitivities: Sequence[Floats]
) -> tuple[Floats, ...]:
    """Predict the change of KL by a move to each level of each site, for each site ``(levels,)``.

    Restoring is predicted by the gradient alone; pruning by the mean of the gradient and of the
    single-site pass, which is scaled up to the gradient: near dense the gradient of what is kept
    vanishes, and far from it the single sites underestimate. What is said of number formats is of
    second order, and holds as it is.

    Args:
        domain: Sites and levels.
        genome: Where the gradient was taken, ``(sites,)``.
        gradient: As an answer holds it, ``(levels of all sites,)``.
        sensitivities: Tables of the single-site pass, for each site ``(levels,)``.
    """
    first_order, pruned = domain.by_site(gradient), ~domain.in_formats
    single_site = [
        table - table[level] for table, level in zip(sensitivities, genome, strict=True)
    ]
    # change of KL by pruning all of each site, summed, by either prediction
    by_gradient = sum(max(float(first_order[site][0]), 0.0) for site in np.flatnonzero(pruned))
    by_single_sites = sum(float(single_site[site][0]) for site in np.flatnonzero(pruned))
    scale = by_gradient / by_single_sites if by_single_sites > 0 and by_gradient > 0 else 1.0
    predictions = []
    for site, (level, gradients) in enumerate(zip(genome, first_order, strict=True)):
        mixed = (gradients + np.maximum(scale, 1.0) * single_site[site]) / 2
        lower = pruned[site] & (np.arange(len(gradients)) < level)
        predictions.append(np.where(lower, np.maximum(mixed, 0.0), gradients))
    return tuple(predictions)


def without_restoring(
    predictions: Sequence[Floats], genome: NDArray[np.int_]
) -> tuple[Floats, ...]:
    """Forbid every level above those of a genome ``(sites,)``."""
    return tuple(
        np.where(np.arange(len(table)) > level, _FORBIDDEN, table)
        for table, level in zip(predictions, genome, strict=True)
    )


def neighbours(
    domain: Domain, genome: NDArray[np.int_], predictions: Sequence[Floats]
) -> tuple[Genomes, Floats]:
    """Return genomes a few moves away, and the sum of their moves' predictions.

    Args:
        domain: Sites and levels.
        genome: ``(sites,)``
        predictions: As `predicted_changes` returns them.

    Returns:
        ``(genomes, sites)``, and the change of KL, ``(genomes,)``.
    """
    ups, downs = _moves(domain, genome, predictions)
    swaps = [(up, down) for up in ups for down in downs if up.site != down.site]
    best = sorted(swaps, key=lambda swap: swap[0].change + swap[1].change)[:_MOST_SWAPS]
    candidates: list[tuple[_Move, ...]] = [(move,) for move in ups + downs]
    candidates += swaps
    candidates += [
        one + other for one, other in combinations(best, 2) if _at_distinct_sites(one + other)
    ]
    rows, changes = np.repeat(genome[None], len(candidates), axis=0), np.zeros(len(candidates))
    for index, moves in enumerate(candidates):
        for move in moves:
            rows[index, move.site] = move.level
            changes[index] += move.change
    return rows, changes


@dataclass(frozen=True)
class _Move:
    site: int
    level: int
    change: float
    """Of KL, as predicted."""
    cost_change: float
    """Change of the first cost by this move alone."""


def _moves(
    domain: Domain, genome: NDArray[np.int_], predictions: Sequence[Floats]
) -> tuple[list[_Move], list[_Move]]:
    """Return the moves up and the moves down of the best predicted change for their cost."""
    costs = [domain.costs[0].along(site, genome) for site in range(len(genome))]
    moves = [
        _Move(site, other, float(table[other]), float(cost[other] - cost[level]))
        for site, (table, cost, level) in enumerate(zip(predictions, costs, genome, strict=True))
        for other in range(len(table))
        if abs(cost[other] - cost[level]) > _ALIKE
    ]
    moves.sort(key=lambda move: move.change / abs(move.cost_change))
    ups = [move for move in moves if move.cost_change > 0]
    downs = [move for move in moves if move.cost_change < 0]
    return ups[:_MOST_MOVES], downs[:_MOST_MOVES]


def _at_distinct_sites(moves: Sequence[_Move]) -> bool:
    return len({move.site for move in moves}) == len(moves)
