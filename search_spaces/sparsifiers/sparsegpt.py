"""Weights go one column after the other, and the columns to come make up for them."""

from collections.abc import Callable

import torch
from torch import Tensor

from search_spaces.damping import damped_cholesky, dead_inputs
from search_spaces.patterns import Pattern
from search_spaces.sparsifiers.zeros import lowest
from search_spaces.statistics import MatrixStatistics, StatisticName, check_tokens

_DAMPING = 0.01
_BLOCK = 128  # columns whose zeros are picked together; published as good for the mask


class SparseGpt:
    """A weight counts by the error that its loss leaves once later columns have made up for it.

    With the Gram matrix ``H`` damped by 1 % of its mean diagonal and ``U`` the upper factor of its
    inverse, ``H⁻¹ = UᵀU``: zeros are picked by ``W_ij² / U_jj²``, in blocks of 128 columns across
    all rows (N:M: in each group), among the weights as updated so far; then for each column ``j``
    of the block, ``W_:,k`` loses ``(W_ij / U_jj) · U_jk`` for all ``k > j`` where ``W_ij`` goes.

    A fraction is spread evenly: the block of columns ``start … stop`` takes ``⌊share · stop⌋ −
    ⌊share · start⌋`` zeros a row. Inputs that were never seen go first.

    The factor of the last Gram matrix is kept for other patterns of the same matrix: it is known
    by the tensor itself, which must not be changed in place.

    Args:
        on_notice: Is told in a sentence where the damping had to be raised.

    References:
        Frantar & Alistarh, 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
        One-Shot" (algorithm 1).
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        self._last: tuple[Tensor, Tensor] | None = None

    def sparsified(
        self, weight: Tensor, pattern: Pattern, statistics: MatrixStatistics
    ) -> Tensor:
        columns = weight.shape[1]
        pattern.check_fits(columns, "weight")
        if pattern.is_dense:
            return weight.clone()
        check_tokens(statistics.tokens, columns, "SparseGPT")
        gram = statistics["gram"]
        return _pruned(weight, pattern, self._factor(gram), dead_inputs(gram))

    def _factor(self, gram: Tensor) -> Tensor:
        """Give the upper factor of the inverse, ``(columns, columns)`` in float32."""
        last = self._last
        if last is None or last[0] is not gram:
            # H = R Rᵀ with R = U⁻¹ upper: the usual factor of H with its columns in reverse
            lower = damped_cholesky(gram.flip(0, 1), _DAMPING, "SparseGPT", self._on_notice)
            identity = torch.eye(len(lower), dtype=lower.dtype, device=lower.device)
            inverse = torch.linalg.solve_triangular(lower, identity, upper=False)
            last = self._last = (gram, inverse.flip(0, 1).float().contiguous())
        return last[1]


def _pruned(weight: Tensor, pattern: Pattern, factor: Tensor, dead: Tensor) -> Tensor:
    """Prune and update all rows at once.

    Args:
        weight: ``(rows, columns)``.
        pattern: Not dense.
        factor: ``U``, ``(columns, columns)``.
        dead: Inputs that were never seen, ``(columns,)``.
    """
    columns = weight.shape[1]
    left = weight.T.contiguous()  # (columns, rows), so that a column lies in one piece
    if left.data_ptr() == weight.data_ptr():
        left = left.clone()
    width = _BLOCK - _BLOCK % pattern.group if pattern.group else _BLOCK
    step = pattern.group or width
    importance = factor.diagonal().square().reciprocal().masked_fill(dead, 0.0)
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        block, errors = left[start:stop], torch.zeros_like(left[start:stop])
        upper = factor[start:stop, start:stop]
        for first in range(0, stop - start, step):
            last = min(first + step, stop - start)
            scores = block[first:last].square() * importance[start + first : start + last, None]
            zeros = _zeros(scores, pattern, start)
            for column in range(first, last):
                picked, values = zeros[column - first], block[column]
                error = torch.div(values, upper[column, column], out=errors[column])
                error.masked_fill_(~picked, 0.0)
                block[column + 1 :].addr_(upper[column, column + 1 :], error, alpha=-1.0)
                values.masked_fill_(picked, 0.0)
        # the columns beyond the block are updated for all of it at once
        left[stop:].addmm_(factor[start:stop, stop:].T, errors, alpha=-1.0)
    return left.T.contiguous()


def _zeros(scores: Tensor, pattern: Pattern, start: int) -> Tensor:
    """Pick the zeros of a block or group of columns from the given one on, ``(columns, rows)``."""
    width, rows = scores.shape
    if pattern.group:
        return lowest(scores.T, pattern.group - pattern.keep).T
    each_row = pattern.zeros_each_row(start + width) - pattern.zeros_each_row(start)
    return lowest(scores.T.reshape(1, -1), rows * each_row).view(rows, width).T
