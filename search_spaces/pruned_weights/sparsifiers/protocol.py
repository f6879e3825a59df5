"""What a sparsifier is: it sets weights of a matrix to zero, and may move the others."""

from typing import Protocol

from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName


class Sparsifier(Protocol):
    """Makes matrices sparse."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `sparsified` is asked."""
        ...

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        """Give the sparse matrix.

        Args:
            weight: ``(rows, columns)`` in float32; it stays as it is.
            pattern: How many weights become zero: exactly ``pattern.zeros(rows, columns)``, and
                with groups ``group - keep`` of each group.
            statistics: Of this matrix.

        Returns:
            ``(rows, columns)`` in float32, zeros in place.
        """
        ...


class Refinement(Protocol):
    """Betters a sparse matrix: other weights, or other zeros of the same pattern."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `refined` is asked."""
        ...

    def refined(
        self,
        sparse: Tensor,
        weight: Tensor,
        pattern: SparsityPattern,
        statistics: MatrixStatistics,
    ) -> Tensor:
        """Give the refined matrix.

        Args:
            sparse: As a `Sparsifier` made it, ``(rows, columns)``; it stays as it is.
            weight: What it was made from, ``(rows, columns)``.
            pattern: Its pattern, which holds afterwards too.
            statistics: Of this matrix.
        """
        ...
