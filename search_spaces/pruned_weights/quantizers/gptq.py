"""GPTQ: column by column to a format's numbers, for which the columns to come compensate."""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.linalg import LastFeedback
from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.pruned_weights.codecs.protocol import Codec
from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.pruned_weights.quantizers.imatrix import column_importance
from search_spaces.space.number_format import NumberFormat
from search_spaces.statistics import MatrixStatistics, StatisticName, check_tokens


class Gptq:
    """A weight's error is made up for by the columns behind it, before these are rounded.

    With ``H = E[x xᵀ]``, damped by 1 % of its mean diagonal, and ``H⁻¹ = Uᵀ U``: the weights of
    column ``j`` become the nearest numbers ``Q_:j`` of the grid, and ``W_:,k`` loses
    ``(W_:j − Q_:j) · U_jk / U_jj`` for all ``k > j``. The grid of each block of the format, its
    scales, is picked by the format's maker for the weights as updated so far, weighted as with an
    importance matrix. Zeros of a sparse matrix are errors like others, made up for in the same
    pass (Optimal Brain Compression); and of a narrow matrix, whose kept columns have made up for
    the removed ones, ``H`` is that of the kept inputs, which is the same pass once more: the sum
    of squares that both minimise splits into the two.

    References:
        Frantar, Ashkboos, Hoefler & Alistarh, 2023, "GPTQ: Accurate Post-Training Quantization for
        Generative Pre-trained Transformers" (algorithm 1).
        Frantar & Alistarh, 2022, "Optimal Brain Compression: A Framework for Accurate
        Post-Training Quantization and Pruning" (section 5). Different here: zeros are those that
        the sparsifier picked.
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})

    def __init__(self) -> None:
        self._feedback = LastFeedback("GPTQ")

    @torch.no_grad()
    def quantize(
        self,
        weight: Tensor,
        number_format: NumberFormat,
        statistics: MatrixStatistics,
        before_zeros: Tensor | None = None,
    ) -> QuantizedMatrix:
        codec = codec_of(number_format)
        if not codec.highest:  # its numbers are so dense that there is nothing to make up for
            return QuantizedMatrix(number_format, codec.encode(weight.cpu()))
        columns = weight.shape[1]
        check_tokens(statistics.tokens, columns, "GPTQ")
        gram = statistics["gram"]
        updates = self._feedback.of(gram).updates
        importance = column_importance(gram.diagonal())
        start_from = weight if before_zeros is None else before_zeros
        left = start_from.T.clone(memory_format=torch.contiguous_format)  # (columns, rows)
        zeros = None if before_zeros is None else weight.T == 0
        pieces = []
        for start in range(0, columns, number_format.block):
            part = slice(start, start + number_format.block)
            block = left[part]
            if zeros is not None:
                block = block.masked_fill(zeros[part], 0.0)
            data = codec.encode(
                block.T.contiguous().cpu(), None if importance is None else importance[part]
            )
            grid = _Grid.of(codec, data, left.device)
            integers, errors = _rounded_(
                left[part], None if zeros is None else zeros[part], grid, updates[part, part]
            )
            pieces.append(codec.with_integers(data, integers.T.cpu()))
            left[part.stop :].addmm_(updates[part, part.stop :].T, errors, alpha=-1.0)
        return QuantizedMatrix(number_format, torch.cat(pieces, dim=1))


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The numbers ``lowest + step · q`` that each weight of a block may become."""

    lowest: Tensor
    """``(columns, rows)``"""
    step: Tensor
    """``(columns, rows)``; 0 where there is one number only."""
    highest: int
    """Largest ``q``."""

    @classmethod
    def of(cls, codec: Codec, data: Tensor, device: torch.device) -> "_Grid":
        """Read the grid off the numbers that a block's lowest and highest integers stand for."""
        lowest, top = (
            codec.decode(codec.with_integers(data, integers)).T.to(device)
            for integers in _constants(codec, data)
        )
        return cls(lowest=lowest, step=(top - lowest) / codec.highest, highest=codec.highest)


def _constants(codec: Codec, data: Tensor) -> tuple[Tensor, Tensor]:
    zeros = torch.zeros(codec.decode(data).shape, dtype=torch.long)
    return zeros, zeros + codec.highest


def _rounded_(
    block: Tensor, zeros: Tensor | None, grid: _Grid, updates: Tensor
) -> tuple[Tensor, Tensor]:
    """Round a block of columns in turn, and update those behind each in place.

    Args:
        block: ``(columns, rows)``.
        zeros: What becomes the number nearest to zero, likewise; None: nothing.
        grid: Of the block.
        updates: Of these columns among themselves, ``(columns, columns)``.

    Returns:
        The integers and the errors, ``(columns, rows)``.
    """
    errors, integers = torch.empty_like(block), torch.empty_like(block, dtype=torch.long)
    for column, values in enumerate(block):
        wanted = values if zeros is None else values.masked_fill(zeros[column], 0.0)
        lowest, step = grid.lowest[column], grid.step[column]
        places = ((wanted - lowest) / step).round().clamp(0, grid.highest)
        places = places.where(step != 0, (grid.highest + 1) // 2)
        integers[column] = places
        torch.sub(values, lowest + step * places, out=errors[column])
        block[column + 1 :].addr_(updates[column, column + 1 :], errors[column], alpha=-1.0)
    return integers, errors
