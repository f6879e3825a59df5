"""Scales and integers for which an error counts by the mean square of its input."""

import torch
from torch import Tensor

from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.number_format import NumberFormat
from search_spaces.statistics import MatrixStatistics, StatisticName

_LEAST = 1e-4
"""What an input counts that was never seen, as a share of the mean: other text may have it."""


class ImportanceMatrix:
    """A weight's error counts by ``E[x_j²]``, as with llama.cpp's importance matrices.

    The expected error of an output is ``Σ_j E[x_j²] (W_ij − Q_ij)²`` where inputs are not
    correlated. GGUF's types are quantised by llama.cpp itself, but for those that it rounds alike
    whatever an error counts.
    """

    statistics: frozenset[StatisticName] = frozenset({"input_second_moment"})

    def quantize(
        self,
        weight: Tensor,
        number_format: NumberFormat,
        statistics: MatrixStatistics,
        before_zeros: Tensor | None = None,  # noqa: ARG002 - zeros are nearest to themselves
    ) -> QuantizedMatrix:
        importance = column_importance(statistics["input_second_moment"])
        codec = codec_of(number_format)
        return QuantizedMatrix(number_format, codec.encode(weight.cpu(), importance))


def column_importance(energy: Tensor) -> Tensor | None:
    """Return what errors count by mean squares of inputs ``(columns,)``; None: all the same.

    That is where these are not finite, or no input was ever seen.
    """
    mean = energy.double().mean()
    if not bool(torch.isfinite(mean)) or mean <= 0:
        return None
    return (energy.double() / mean).clamp(min=_LEAST).float().cpu()
