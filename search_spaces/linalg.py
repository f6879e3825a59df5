"""Factors of Gram matrices that may be singular."""

import logging

import torch
from torch import Tensor

from search_spaces.errors import DataError

logger = logging.getLogger(__name__)

_RAISES = (1, 10, 100)
DAMPING = 0.01
"""What `damped_inverse` adds to the diagonal, as a share of its mean."""


def dead_inputs(gram: Tensor) -> Tensor:
    """Mark the inputs that were zero at every token, ``(columns,)``, of ``(columns, columns)``."""
    return gram.diagonal() <= 0


def damped_cholesky(gram: Tensor, damping: float, asker: str) -> Tensor:
    """Factorise a Gram matrix with something added to its diagonal.

    An input that was never seen gets the mean of the others' diagonal, so that it is left alone.

    Args:
        gram: ``(columns, columns)``.
        damping: What is added, as a share of the mean diagonal; ten times it, and ten times that,
            where the sum is not positive definite.
        asker: Who asks, for messages; where more was added than asked for, or the diagonal alone
            was used, a warning is logged.

    Returns:
        Lower factor ``(columns, columns)`` in float64.

    Raises:
        DataError: Where the matrix holds numbers that are not finite.
    """
    matrix = gram.double()
    if not bool(torch.isfinite(matrix).all()):
        raise DataError(
            f"{asker} needs inputs that are finite, and some of {len(gram)} are not; give other "
            f"`--data`, or load the model in float32"
        )
    diagonal = matrix.diagonal().clamp(min=0.0)
    dead = dead_inputs(matrix)
    mean = diagonal.sum() / max(int((~dead).sum()), 1)
    if not mean:
        return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    diagonal = diagonal.where(~dead, mean)
    for times in _RAISES:
        trial = matrix.diagonal_scatter(diagonal + damping * times * mean)
        factor: Tensor
        factor, failed = torch.linalg.cholesky_ex(trial)
        if not failed:
            if times > 1:
                logger.warning(
                    "%s: the Gram matrix of %d inputs is not positive definite; %.0f%% of its "
                    "mean diagonal was added instead of %.0f%%",
                    asker,
                    len(gram),
                    100 * damping * times,
                    100 * damping,
                )
            return factor
    logger.warning(
        "%s: the Gram matrix of %d inputs is not positive definite even with %.0f%% of its mean "
        "diagonal; its diagonal alone was used",
        asker,
        len(gram),
        100 * damping * _RAISES[-1],
    )
    return (diagonal + damping * mean).sqrt().diag()


def damped_inverse(gram: Tensor) -> Tensor:
    """Invert a Gram matrix ``(columns, columns)`` by Cholesky in float64.

    With fewer tokens than columns, or inputs that are always zero, it is singular: damping of 1 %
    of the mean diagonal makes it regular, as SparseGPT does, or more where that does not suffice.

    Raises:
        DataError: Where the matrix holds numbers that are not finite.
    """
    factor = damped_cholesky(gram, DAMPING, "the ranking `obs`")
    return torch.cholesky_inverse(factor)
