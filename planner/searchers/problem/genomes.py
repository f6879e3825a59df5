"""Genomes as keys, and which of some genomes are new and of interest."""

from collections.abc import Callable, Container

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from search_spaces.space.space import Genome

_ATTEMPTS_PER_GENOME = 10
# a uniform plan of a cost lies up to one step below it
_FLOOR_SLACK = 0.9


def as_genome(levels: NDArray[np.int_]) -> Genome:
    """Return a row of levels as the tuple that sets and stores hold."""
    return tuple(int(level) for level in levels)


def of_interest(genomes: NDArray[np.int_], domain: Domain) -> NDArray[np.bool_]:
    """Return which genomes are not far below the lowest cost of interest, ``(genomes,)``."""
    return np.asarray(domain.cost(genomes) >= _FLOOR_SLACK * domain.cost_floor)


def are_new(genomes: NDArray[np.int_], seen: Container[Genome] = ()) -> NDArray[np.bool_]:
    """Return which genomes are neither seen nor repeat one before them, ``(genomes,)``."""
    before = set[Genome]()
    new = np.zeros(len(genomes), dtype=bool)
    for position, genome in enumerate(map(as_genome, genomes)):
        new[position] = genome not in seen and genome not in before
        before.add(genome)
    return new


def draw_new(
    draw: Callable[[], NDArray[np.int_]],
    count: int,
    seen: set[Genome],
    *,
    attempts: int = _ATTEMPTS_PER_GENOME,
) -> NDArray[np.int_]:
    """Draw until ``count`` genomes are new, and add them to ``seen``.

    Args:
        draw: Draws one genome, ``(sites,)``.
        count: How many, at least 1.
        seen: Genomes that are not new.
        attempts: Draws for each of ``count``, after which the domain is taken to be exhausted.

    Returns:
        ``(genomes, sites)``, fewer than ``count`` where the domain is exhausted.
    """
    new: list[Genome] = []
    for _ in range(attempts * count):
        levels = draw()
        genome = as_genome(levels)
        if genome not in seen:
            seen.add(genome)
            new.append(genome)
        if len(new) == count:
            break
    return np.array(new, dtype=np.int_).reshape(-1, len(levels))
