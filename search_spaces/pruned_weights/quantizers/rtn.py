"""Each weight to the nearest number that its format's maker offers."""

from torch import Tensor

from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.number_format import NumberFormat
from search_spaces.statistics import MatrixStatistics, StatisticName


class RoundToNearest:
    """A format's own rounding, in which an error counts the same in every column.

    Scales are those that the format's maker picks: llama.cpp's quantiser without an importance
    matrix, or the largest weight of a group.
    """

    statistics: frozenset[StatisticName] = frozenset()

    def quantize(
        self,
        weight: Tensor,
        number_format: NumberFormat,
        statistics: MatrixStatistics,  # noqa: ARG002 - none are needed
        before_zeros: Tensor | None = None,  # noqa: ARG002 - zeros are nearest to themselves
    ) -> QuantizedMatrix:
        return QuantizedMatrix(number_format, codec_of(number_format).encode(weight.cpu()))
