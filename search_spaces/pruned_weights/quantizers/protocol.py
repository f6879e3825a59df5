"""What a quantiser is: it picks scales and integers for a matrix in a number format."""

from typing import Protocol

from torch import Tensor

from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.number_format import NumberFormat
from search_spaces.statistics import MatrixStatistics, StatisticName


class Quantizer(Protocol):
    """Stores matrices in number formats."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `quantize` is called."""
        ...

    def quantize(
        self,
        weight: Tensor,
        number_format: NumberFormat,
        statistics: MatrixStatistics,
        before_zeros: Tensor | None = None,
    ) -> QuantizedMatrix:
        """Return a matrix in a number format.

        Args:
            weight: ``(rows, columns)`` in float32; it stays as it is.
            number_format: That fits its columns.
            statistics: Of this matrix, in the same order.
            before_zeros: The matrix before some weights became zero, of the same shape: zeros stay
                zeros, and what takes their error into account starts from here. None: there are
                no zeros to keep.

        Raises:
            DataError: If the statistics are of far too few tokens, or not finite.
            MissingExtraError: If it takes a package that is not installed.
        """
        ...
