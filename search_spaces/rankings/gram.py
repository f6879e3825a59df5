"""Inverting the second moments of a matrix's inputs, safely."""

import torch
from torch import Tensor

from search_spaces.damping import damped_cholesky

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean."""


def damped_inverse(gram: Tensor) -> Tensor:
    """Invert a Gram matrix ``(columns, columns)`` by Cholesky in float64.

    With fewer tokens than columns, or inputs that are always zero, it is singular: damping of 1 %
    of the mean diagonal makes it regular, as SparseGPT does, or more where that does not suffice.

    Raises:
        DataError: Where the matrix holds numbers that are not finite.
    """
    factor = damped_cholesky(gram, DAMPING, "the ranking `obs`", lambda _notice: None)
    return torch.cholesky_inverse(factor)
