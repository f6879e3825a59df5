"""What the search loop asks of a searcher."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Searcher(Protocol):
    """Proposes genomes and learns from their objectives."""

    def ask(self) -> NDArray[np.int_]:
        """Genomes that were never asked before, ``(genomes, sites)``; none once all were."""
        ...

    def tell(self, genomes: NDArray[np.int_], objectives: NDArray[np.float64]) -> None:
        """Take in the objectives of the last genomes asked.

        Args:
            genomes: ``(genomes, sites)``.
            objectives: ``(genomes, objectives)``, minimised, finite.
        """
        ...
