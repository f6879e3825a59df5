"""What a sparsifier is: it sets weights of a matrix to zero, and may update the others."""

from typing import Protocol

from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class Sparsifier(Protocol):
    """Makes matrices sparse."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `sparsified` is called."""
        ...

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        """Return the sparse matrix.

        Args:
            weight: ``(rows, columns)`` in float32; it stays as it is.
            pattern: How many weights become zero: exactly ``pattern.zeros(rows, columns)``, and
                with groups ``group - keep`` of each group.
            statistics: Of this matrix.

        Returns:
            ``(rows, columns)`` in float32, with the zeros.
        """
        ...
