"""Damped factors of Gram matrices, which may be singular, and what follows from their inverse."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from search_spaces.errors import DataError

logger = logging.getLogger(__name__)

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean, where nothing else is asked for; SparseGPT's."""
_RAISES = 2
"""How often `damped_cholesky` makes the damping ten times larger."""


@dataclass(frozen=True, kw_only=True)
class DampedFactor:
    """The Cholesky factor of a Gram matrix with damping on its diagonal."""

    lower: Tensor
    """``(columns, columns)``"""
    damping: float
    """What was added to the diagonal."""
    raises: int
    """How often the damping had to be made ten times larger."""


def damped_factor(
    gram: Tensor, share: float, mean: float, *, raises: int = 0
) -> DampedFactor | None:
    """Factorise a Gram matrix with damping, made ten times larger until the sum is definite.

    >>> gram = torch.tensor([[1.0, 2.0], [2.0, 2.0]], dtype=torch.float64)
    >>> factor = damped_factor(gram, 0.2, 1.5, raises=1)  # 0.3 is too little, 3 is not
    >>> factor.damping, factor.raises, factor.lower.tolist()
    (3.0, 1, [[2.0, 0.0], [1.0, 2.0]])

    Args:
        gram: ``(columns, columns)`` in float64; it is left as it was. Its diagonal is damped in
            place meanwhile, for a copy may be the largest thing in memory.
        share: Damping to begin with, in units of `mean`.
        mean: What the damping is relative to: the mean of the diagonal, of all columns where
            `gram` holds some of them only.
        raises: How often the damping may be made ten times larger.

    Returns:
        The factor; None: the matrix is not positive definite even with the most damping.
    """
    diagonal = gram.diagonal().clone()
    try:
        for raised in range(raises + 1):
            # the least normal number gives a matrix of zeros a factor too, and vanishes elsewhere
            damping = share * 10**raised * mean + torch.finfo(gram.dtype).tiny
            gram.diagonal().copy_(diagonal + damping)
            lower, failed = torch.linalg.cholesky_ex(gram)
            if not failed:
                return DampedFactor(lower=lower, damping=damping, raises=raised)
    finally:
        gram.diagonal().copy_(diagonal)
    return None


def leading_solutions(
    right: Tensor, lower: Tensor, counts: Sequence[int]
) -> Iterator[tuple[slice, Tensor]]:
    """Solve ``X_k L_kk = R_k`` for leading columns ``R_k`` and blocks ``L_kk``, at each ``k``.

    By ``[A 0; B C]⁻¹ = [A⁻¹ 0; −C⁻¹ B A⁻¹ C⁻¹]`` each block of rows of the inverse adds its part
    to the solution before it: all of them take about as long as the largest.

    >>> lower = torch.tensor([[2.0, 0.0], [1.0, 4.0]])
    >>> for block, solution in leading_solutions(torch.tensor([[2.0, 8.0]]), lower, [1, 2]):
    ...     print(block.stop, solution.tolist())
    1 [[1.0]]
    2 [[0.0, 2.0]]

    Args:
        right: ``(rows, columns)``
        lower: Triangular, ``(columns, columns)``.
        counts: The widths ``k``, ascending, at least one.

    Yields:
        The columns that a width has more than the last, and its solution ``(rows, k)``, which is
        valid until the next is taken.
    """
    if len(counts) == 1:  # it needs no inverse
        first = slice(counts[0])
        yield (
            first,
            torch.linalg.solve_triangular(
                lower[first, first], right[:, first], upper=False, left=False
            ),
        )
        return
    inverse = lower.new_zeros(counts[-1], counts[-1])
    solution = torch.zeros_like(right)
    for start, count in pairwise([0, *counts]):
        block, before = slice(start, count), slice(start)
        rows = inverse[block, :count]
        rows[:, block] = torch.eye(count - start, dtype=lower.dtype, device=lower.device)
        rows[:, before] = -lower[block, before] @ inverse[before, before]
        torch.linalg.solve_triangular(lower[block, block], rows, upper=False, out=rows)
        solution[:, :count] += right[:, block] @ rows
        yield block, solution[:, :count]


def dead_inputs(gram: Tensor) -> Tensor:
    """Mark the inputs that were zero at every token, ``(columns,)``, of ``(columns, columns)``."""
    return gram.diagonal() <= 0


def damped_cholesky(gram: Tensor, share: float, method: str) -> Tensor:
    """Factorise a Gram matrix, whatever its rank, with damping on its diagonal.

    An input that was always zero gets the mean of the others' diagonal, so that it is left alone.
    Where a hundred times the damping does not suffice, the diagonal alone is used.

    Args:
        gram: ``(columns, columns)``.
        share: Damping as a share of the mean diagonal of the inputs that were not always zero.
        method: Name of the method, for messages; where the damping was raised, or the diagonal
            alone was used, a warning is logged.

    Returns:
        Lower factor ``(columns, columns)`` in float64.

    Raises:
        DataError: If the matrix holds numbers that are not finite.
    """
    matrix = gram.double()
    if not bool(torch.isfinite(matrix).all()):
        raise DataError(
            f"{method} needs inputs that are finite, and some of {len(gram)} are not; give other "
            f"`--data`, or load the model in float32"
        )
    diagonal = matrix.diagonal().clamp(min=0.0)
    dead = dead_inputs(matrix)
    mean = float(diagonal.sum() / max(int((~dead).sum()), 1))
    if not mean:
        return torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    diagonal = diagonal.where(~dead, mean)
    factor = damped_factor(matrix.diagonal_scatter(diagonal), share, mean, raises=_RAISES)
    if factor is None:
        logger.warning(
            "%s: the Gram matrix of %d inputs is not positive definite even with %.0f%% of its "
            "mean diagonal; its diagonal alone was used",
            method,
            len(gram),
            100 * share * 10**_RAISES,
        )
        return (diagonal + share * mean).sqrt().diag()
    if factor.raises:
        logger.warning(
            "%s: the Gram matrix of %d inputs is not positive definite; %.0f%% of its mean "
            "diagonal was added instead of %.0f%%",
            method,
            len(gram),
            100 * share * 10**factor.raises,
            100 * share,
        )
    return factor.lower


def damped_inverse(gram: Tensor, method: str) -> Tensor:
    """Invert a Gram matrix ``(columns, columns)`` by Cholesky in float64.

    With fewer tokens than columns, or inputs that are always zero, it is singular: damping of 1 %
    of the mean diagonal makes it regular, as in SparseGPT, or more where that does not suffice.

    Args:
        gram: ``(columns, columns)``.
        method: Name of the method, for messages.

    Raises:
        DataError: If the matrix holds numbers that are not finite.
    """
    return torch.cholesky_inverse(damped_cholesky(gram, DAMPING, method))


@dataclass(frozen=True, kw_only=True)
class ErrorFeedback:
    """How columns compensate for those before them, of their second moments ``H``.

    With ``U`` the upper factor of the damped inverse, ``H⁻¹ = Uᵀ U``, of the weights from column
    ``j`` on an error of 1 in column ``j`` costs ``1 / U_jj²`` once those behind it have made up
    for it, for which each of them loses ``U_jk / U_jj``.
    """

    gram: Tensor
    """``H``, which must not be changed in place."""
    updates: Tensor
    """``U_jk / U_jj``, ``(columns, columns)`` in float32."""
    importance: Tensor
    """``1 / U_jj²``, 0 for inputs that were always zero, ``(columns,)`` in float32."""

    @classmethod
    def of(cls, gram: Tensor, method: str) -> "ErrorFeedback":
        """Factorise second moments ``(columns, columns)``, damped by 1 % of their mean diagonal.

        Args:
            gram: Of the inputs.
            method: Name of the method, for messages.

        Raises:
            DataError: If they hold numbers that are not finite.
        """
        # H = R Rᵀ with R = U⁻¹ upper: the usual factor of H with its columns in reverse
        lower = damped_cholesky(gram.flip(0, 1), DAMPING, method)
        identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
        inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
        upper = inverse.flip(0, 1)
        diagonal = upper.diagonal()
        importance = diagonal.square().reciprocal().masked_fill(dead_inputs(gram), 0.0)
        updates = upper / diagonal[:, None]
        return cls(gram=gram, updates=updates.float(), importance=importance.float())


class LastFeedback:
    """The feedback of the last second moments, kept for what else is made of the same matrix.

    They are known by the tensor itself.
    """

    def __init__(self, method: str) -> None:
        self._method = method
        self._last: ErrorFeedback | None = None

    def of(self, gram: Tensor) -> ErrorFeedback:
        """Return the feedback of second moments ``(columns, columns)``; see `ErrorFeedback.of`."""
        if self._last is None or self._last.gram is not gram:
            self._last = ErrorFeedback.of(gram, self._method)
        return self._last
