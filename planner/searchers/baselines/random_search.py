"""Random search: the baseline that any search must beat."""

import numpy as np
from numpy.typing import NDArray

from planner.searchers.problem.domain import Domain
from planner.searchers.problem.genomes import draw_new
from planner.searchers.protocol import Answer, Ask
from search_spaces.space.space import Genome


class RandomSearch:
    """Random genomes, their costs spread evenly over the range."""

    def __init__(self, domain: Domain, population: int, seed: int) -> None:
        self._domain = domain
        self._population = population
        self._rng = np.random.default_rng(seed)
        self._seen = set[Genome]()

    def ask(self) -> Ask:
        return Ask(genomes=draw_new(self._draw, self._population, self._seen))

    def tell(self, ask: Ask, answer: Answer) -> None:
        """Learn nothing."""

    def _draw(self) -> NDArray[np.int_]:
        target = self._rng.uniform(self._domain.cost_floor, self._domain.cost_ceiling)
        tilt = self._rng.uniform(-1.0, 1.0, size=len(self._domain.top_levels))
        return self._domain.tilted(target, tilt)
