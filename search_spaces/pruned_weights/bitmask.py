"""How a sparse matrix is stored: a bit for each weight, and the weights that are not zero."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Type that a value's bits are read as, by bytes a value, for NumPy knows no bfloat16."""


Count = TypeVar("Count", int, NDArray[np.int_])


def pack(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Pack a matrix, whatever its pattern.

    >>> bits, values = pack(torch.tensor([[0.0, 5.0, 0.0, 7.0]]))
    >>> bits.tolist(), values.tolist()  # 0b1010: the second and the fourth
    ([[10]], [5.0, 7.0])

    Args:
        weight: ``(rows, columns)`` of any floating type, on the CPU.

    Returns:
        A bit for each weight, set where it is not zero, rows padded to whole bytes, the first
        column the lowest bit, as ``compressed-tensors`` lays them out,
        ``(rows, ⌈columns / 8⌉)`` in uint8; and the values that are not zero, row by row, in the
        type of the weight, ``(nonzero,)``. The sign of a zero is lost.
    """
    set_ = (weight != 0).numpy()
    values = _bits(weight.contiguous()).reshape(-1)[np.flatnonzero(set_)]
    packed = torch.from_numpy(np.packbits(set_, axis=1, bitorder="little"))
    return packed, torch.from_numpy(values).view(weight.dtype)


def unpack(bits: Tensor, values: Tensor, columns: int) -> Tensor:
    """Unpack a matrix that `pack` packed: the same bits, but for the sign of zeros.

    Args:
        bits: ``(rows, ⌈columns / 8⌉)`` in uint8.
        values: ``(nonzero,)``.
        columns: Of the matrix.

    Returns:
        ``(rows, columns)`` in the type of the values.

    Raises:
        ValueError: If there are not as many values as bits.
    """
    set_ = np.unpackbits(bits.numpy(), axis=1, count=columns, bitorder="little").view(np.bool_)
    integers = _bits(values)
    if (count := np.count_nonzero(set_)) != len(integers):
        raise ValueError(f"a value is needed for each of {count} bits, got {len(integers)}")
    weight = np.zeros(set_.size, integers.dtype)
    weight[np.flatnonzero(set_)] = integers  # half the time of a boolean index
    return torch.from_numpy(weight).view(values.dtype).view(set_.shape)


def mask_bytes(rows: Count, columns: Count) -> Count:
    """Count the bytes of the bits of a packed matrix, or of several."""
    return rows * -(-columns // 8)


def _bits(values: Tensor) -> NDArray[np.integer]:
    return values.view(_INTEGERS[values.element_size()]).numpy()
