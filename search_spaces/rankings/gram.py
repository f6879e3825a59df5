"""Inverting the second moments of a matrix's inputs, safely."""

import torch
from torch import Tensor

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean."""


def damped_inverse(gram: Tensor) -> Tensor:
    """Invert a Gram matrix ``(columns, columns)`` by Cholesky in float64.

    With fewer tokens than columns, or inputs that are always zero, it is singular: damping of 1 %
    of the mean diagonal makes it regular, as SparseGPT does.
    """
    matrix = gram.double()
    mean = matrix.diagonal().mean()
    # where nothing was ever put in, any damping does
    damping = torch.where(mean > 0, DAMPING * mean, torch.ones_like(mean))
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return torch.cholesky_inverse(torch.linalg.cholesky(matrix + damping * eye))
