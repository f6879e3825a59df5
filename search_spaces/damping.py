"""Factors of Gram matrices that may be singular."""

from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces.errors import DataError

_RAISES = (1, 10, 100)


def dead_inputs(gram: Tensor) -> Tensor:
    """Mark the inputs that were zero at every token, ``(columns,)``, of ``(columns, columns)``."""
    return gram.diagonal() <= 0


def damped_cholesky(
    gram: Tensor, damping: float, asker: str, on_notice: Callable[[str], None]
) -> Tensor:
    """Factorise a Gram matrix with something added to its diagonal.

    An input that was never seen gets the mean of the others' diagonal, so that it is left alone.

    Args:
        gram: ``(columns, columns)``.
        damping: What is added, as a share of the mean diagonal; ten times it, and ten times that,
            where the sum is not positive definite.
        asker: Who asks, for messages.
        on_notice: Is told where more was added than asked for, or the diagonal alone was used.

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
                on_notice(
                    f"{asker}: the Gram matrix of {len(gram)} inputs is not positive definite; "
                    f"{damping * times:.0%} of its mean diagonal was added instead of "
                    f"{damping:.0%}"
                )
            return factor
    on_notice(
        f"{asker}: the Gram matrix of {len(gram)} inputs is not positive definite even with "
        f"{damping * _RAISES[-1]:.0%} of its mean diagonal; its diagonal alone was used"
    )
    return (diagonal + damping * mean).sqrt().diag()
