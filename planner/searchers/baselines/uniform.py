"""Uniform pruning: the same share kept everywhere, at the budget and over the cost range."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import draw_new
from planner.searchers.protocol import Answer, Ask
from search_spaces.space.space import Genome


class UniformSearch:
    """The dense model, the budget's uniform plan, then others, finer and finer.

    Their costs follow the van der Corput sequence. Where number formats are a choice all are
    lowered first and together, as whoever does not search would do.

    References:
        van der Corput (1935), Verteilungsfunktionen.
    """

    def __init__(self, domain: Domain, population: int) -> None:
        self._domain = domain
        self._population = population
        self._index = 0
        self._seen = set[Genome]()

    def ask(self) -> Ask:
        return Ask(genomes=draw_new(self._draw, self._population, self._seen))

    def tell(self, ask: Ask, answer: Answer) -> None:
        """Learn nothing."""

    def _draw(self) -> NDArray[np.int_]:
        index, self._index = self._index, self._index + 1
        if index == 0:
            return self._domain.top_levels.copy()
        if index == 1:
            return self._domain.uniform_within()
        floor, ceiling = self._domain.cost_floor, self._domain.cost_ceiling
        return self._domain.uniform(floor + (ceiling - floor) * van_der_corput(index - 1))


def van_der_corput(index: int) -> float:
    """Return the bits of ``index`` mirrored at the point: 1/2, 1/4, 3/4, 1/8, 5/8 and so on."""
    mirrored, place = 0.0, 0.5
    while index:
        mirrored += place * (index & 1)
        index >>= 1
        place /= 2
    return mirrored
