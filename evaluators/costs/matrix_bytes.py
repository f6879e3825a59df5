"""Bytes of matrices in a number format, whatever their widths."""

import numpy as np
from numpy.typing import NDArray

from search_spaces.space.number_format import FORMATS, NumberFormat

Counts = NDArray[np.int_]


def stored_bytes(
    number_format: NumberFormat, rows: Counts, columns: Counts, itemsize: int
) -> Counts:
    """Return the bytes of matrices where a number format is asked for.

    Each is in the format that holds it, as `NumberFormat.held` says.

    Args:
        number_format: That is asked for.
        rows: Outputs of each matrix.
        columns: Inputs of each matrix, in the same shape.
        itemsize: Bytes of a number of the dense model.
    """
    if not number_format.block_bytes:
        return rows * columns * itemsize
    fitting = number_format.bytes_of(rows, columns) * (rows * columns > 0)
    fallback = FORMATS.get(number_format.fallback)
    others = (
        rows * columns * itemsize
        if fallback is None
        else stored_bytes(fallback, rows, columns, itemsize)
    )
    return np.where(columns % number_format.block == 0, fitting, others)
