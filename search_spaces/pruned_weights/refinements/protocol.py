"""What a refinement is: it improves the weights or the zeros of a sparse matrix."""

from typing import Protocol

from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class Refinement(Protocol):
    """Improves a sparse matrix: other weights, or other zeros of the same pattern."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `refined` is called."""
        ...

    def refined(
        self,
        sparse: Tensor,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,
    ) -> Tensor:
        """Return the refined matrix, ``(rows, columns)``.

        Args:
            sparse: As a `Sparsifier` made it, ``(rows, columns)``; it stays as it is.
            weight: The matrix that was made sparse, ``(rows, columns)``.
            pattern: Its pattern, to which the refined matrix keeps.
            statistics: Of this matrix.
        """
        ...
