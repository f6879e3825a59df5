"""SparseGPT: zeros column by column, for which the columns to come compensate."""

import torch
from torch import Tensor

from search_spaces.linalg import ErrorFeedback, LastFeedback
from search_spaces.pruned_weights.sparsifiers.masks import lowest
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.statistics import MatrixStatistics, StatisticName, check_tokens

_BLOCK = 128  # columns whose zeros are picked together; published as good for the mask


class SparseGpt:
    """A weight counts by the error of pruning it once later columns have compensated for it.

    With the Gram matrix ``H`` damped by 1 % of its mean diagonal and ``U`` the upper factor of its
    inverse, ``H⁻¹ = UᵀU``: zeros are picked by ``W_ij² / U_jj²``, in blocks of 128 columns across
    all rows (N:M: in each group), among the weights as updated so far; then for each column ``j``
    of the block, ``W_:,k`` loses ``(W_ij / U_jj) · U_jk`` for all ``k > j`` if ``W_ij`` is pruned.

    A fraction is spread evenly: the block of columns ``start … stop`` takes ``⌊share · stop⌋ −
    ⌊share · start⌋`` zeros a row. The weights of inputs that are always zero are pruned first.

    The factor of the last Gram matrix is kept for other patterns of the same matrix: it is known
    by the tensor itself, which must not be changed in place.

    References:
        Frantar & Alistarh, 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
        One-Shot" (algorithm 1).
    """

    statistics: frozenset[StatisticName] = frozenset({"gram"})

    def __init__(self) -> None:
        self._feedback = LastFeedback("SparseGPT")

    def sparsified(
        self, weight: Tensor, pattern: SparsityPattern, statistics: MatrixStatistics
    ) -> Tensor:
        columns = weight.shape[1]
        pattern.check_fits(columns, "weight")
        if pattern.is_dense:
            return weight.clone()
        check_tokens(statistics.tokens, columns, "SparseGPT")
        return _pruned(weight, pattern, self._feedback.of(statistics["gram"]))


def _pruned(weight: Tensor, pattern: SparsityPattern, feedback: ErrorFeedback) -> Tensor:
    """Prune and update all rows ``(rows, columns)`` at once, by a pattern that is not dense."""
    columns, updates = weight.shape[1], feedback.updates
    left = weight.T.clone(memory_format=torch.contiguous_format)  # a column lies in one piece
    # a block holds whole groups
    width = _BLOCK - _BLOCK % pattern.group if pattern.group else _BLOCK
    for start in range(0, columns, width):
        stop = min(start + width, columns)
        errors = _block_pruned_(
            left[start:stop],
            updates[start:stop, start:stop],
            feedback.importance[start:stop],
            pattern,
            start,
        )
        # the columns beyond the block are updated for all of it at once
        left[stop:].addmm_(updates[start:stop, stop:].T, errors, alpha=-1.0)
    return left.T.contiguous()


def _block_pruned_(
    block: Tensor, updates: Tensor, importance: Tensor, pattern: SparsityPattern, start: int
) -> Tensor:
    """Prune a block of columns in place, and return what became zero, ``(columns, rows)``.

    Args:
        block: ``(columns, rows)``.
        updates: Of these columns among themselves, ``(columns, columns)``.
        importance: Of these columns, ``(columns,)``.
        pattern: Not dense.
        start: The first column of the block.
    """
    width, errors = len(block), torch.empty_like(block)
    for first in range(0, width, pattern.group or width):
        part = slice(first, first + (pattern.group or width))
        zeros = _zeros(block[part].square() * importance[part, None], pattern, start)
        steps = zip(zeros.to(block.dtype), block[part], errors[part], strict=True)
        for column, (zero, values, error) in enumerate(steps, first):
            torch.mul(values, zero, out=error)
            block[column + 1 :].addr_(updates[column, column + 1 :], error, alpha=-1.0)
        block[part].masked_fill_(zeros, 0.0)
    return errors


def _zeros(scores: Tensor, pattern: SparsityPattern, start: int) -> Tensor:
    """Pick the zeros of a block or group of columns from the given one on, ``(columns, rows)``."""
    width, rows = scores.shape
    if pattern.group:
        return lowest(scores.T, pattern.group - pattern.keep).T
    each_row = pattern.zeros_each_row(start + width) - pattern.zeros_each_row(start)
    return lowest(scores.T.reshape(1, -1), rows * each_row).view(rows, width).T
