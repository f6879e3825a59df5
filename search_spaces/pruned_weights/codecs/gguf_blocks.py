"""Blocks of GGUF: encoded by llama.cpp or the package `gguf`, and decoded by the latter."""

from dataclasses import dataclass
from math import gcd

import numpy as np
import torch
from gguf import GGMLQuantizationType, quants
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.pruned_weights.codecs.bit_planes import LAYOUTS
from search_spaces.pruned_weights.codecs.ggml_library import check_library, quantized_rows
from search_spaces.space.number_format import NumberFormat

_UNWEIGHTED = ("BF16", "Q8_0")
"""Types that are rounded alike whatever the columns count."""
_OF_PACKAGE = (*_UNWEIGHTED, "Q5_1", "Q5_0", "Q4_1", "Q4_0")
"""Types that the package encodes, byte for byte as llama.cpp does without an importance matrix."""
_ROWS_TOGETHER = 256


@dataclass(frozen=True)
class GgufBlocks:
    """The codec of one of GGUF's types."""

    format: NumberFormat

    @property
    def highest(self) -> int:
        layout = LAYOUTS.get(self.format.name)
        return layout.highest if layout else 0

    def check_installed(self, *, weighted: bool) -> None:
        if not self._is_of_package(weighted=weighted):
            check_library()

    def _is_of_package(self, *, weighted: bool) -> bool:
        """Return whether the package encodes it, and not the library of llama.cpp."""
        return self.format.name in (_UNWEIGHTED if weighted else _OF_PACKAGE)

    def encode(self, weight: Tensor, importance: Tensor | None = None) -> Tensor:
        kind = GGMLQuantizationType[self.format.name]
        if self._is_of_package(weighted=importance is not None):
            data = quants.quantize(_long_rows(weight), kind)
            return torch.from_numpy(data).reshape(len(weight), -1)
        row_bytes = weight.shape[1] // self.format.block * self.format.block_bytes
        weights = None if importance is None else importance.float().contiguous()
        return quantized_rows(weight.contiguous(), kind, row_bytes, weights)

    def decode(self, data: Tensor) -> Tensor:
        numbers = quants.dequantize(_long_rows(data), GGMLQuantizationType[self.format.name])
        return torch.from_numpy(np.asarray(numbers, dtype=np.float32)).reshape(len(data), -1)

    def with_integers(self, data: Tensor, integers: Tensor) -> Tensor:
        return LAYOUTS[self.format.name].with_integers(data, integers, self.format)


def _long_rows(matrix: Tensor) -> NDArray[np.generic]:
    """Join rows: the package takes sixteen at a time, and of short ones that takes long.

    Blocks stay as they are, one by one.
    """
    together = gcd(len(matrix), _ROWS_TOGETHER)
    return matrix.contiguous().reshape(-1, together * matrix.shape[1]).numpy()
