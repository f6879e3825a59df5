"""Matrices in a number format: the bytes that an export writes, and the numbers they stand for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.pruned_weights.codecs import codec_of
from search_spaces.space.number_format import NumberFormat


@dataclass(frozen=True, eq=False)
class QuantizedMatrix:
    """One matrix, or a stack of them, as it is stored.

    Rows are stored one after the other and may be permuted or picked; a row's columns share
    blocks and stay as they are.
    """

    format: NumberFormat
    data: Tensor
    """``(..., rows, bytes a row)`` in uint8, exactly what an export writes."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the numbers, ``(..., rows, columns)``."""
        *rows, row_bytes = self.data.shape
        return (*rows, row_bytes // self.format.block_bytes * self.format.block)

    def dequantized(self) -> Tensor:
        """Return the numbers, ``(..., rows, columns)`` in float32 on the CPU."""
        rows = self.data.cpu().reshape(-1, self.data.shape[-1])
        return codec_of(self.format).decode(rows).reshape(self.shape)

    def rows(self, positions: Tensor) -> "QuantizedMatrix":
        """Return some rows in the order of their positions ``(kept,)``."""
        return QuantizedMatrix(self.format, self.data.index_select(-2, positions.cpu()))


def stacked(matrices: list[QuantizedMatrix]) -> QuantizedMatrix:
    """Return matrices of one format and shape as one stack."""
    return QuantizedMatrix(matrices[0].format, torch.stack([each.data for each in matrices]))
