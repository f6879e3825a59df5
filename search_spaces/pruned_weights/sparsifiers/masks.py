"""Masks of the weights with the lowest scores: exact counts, ties broken by position."""

import torch
from torch import Tensor

from search_spaces.space.sparsity import SparsityPattern


def lowest(scores: Tensor, count: int) -> Tensor:
    """Mark the lowest scores of each row; of equal ones the first.

    >>> lowest(torch.tensor([[2.0, 1.0, 1.0, 0.0]]), 2).tolist()
    [[False, True, False, True]]

    Args:
        scores: ``(rows, columns)``, finite.
        count: How many in a row.

    Returns:
        ``(rows, columns)``, boolean.
    """
    if not count:
        return torch.zeros_like(scores, dtype=torch.bool)
    limit = scores.kthvalue(count, dim=1, keepdim=True).values
    below, tied = scores < limit, scores == limit
    room = count - below.sum(dim=1, keepdim=True)
    if bool((tied.sum(dim=1, keepdim=True) > room).any()):
        tied &= tied.cumsum(dim=1) <= room
    return below | tied


def zeros_by_row(scores: Tensor, pattern: SparsityPattern) -> Tensor:
    """Mark the lowest scores, compared within their row or group, ``(rows, columns)``.

    Raises:
        SettingsError: If the rows do not divide into groups.
    """
    pattern.check_fits(scores.shape[1], "weight")
    if pattern.group:
        groups = scores.reshape(-1, pattern.group)
        return lowest(groups, pattern.group - pattern.keep).view(scores.shape)
    return lowest(scores, pattern.zeros_each_row(scores.shape[1]))


def zeros_by_matrix(scores: Tensor, pattern: SparsityPattern) -> Tensor:
    """Mark the lowest scores, compared across the matrix or within a group, ``(rows, columns)``.

    Raises:
        SettingsError: If the rows do not divide into groups.
    """
    if pattern.group:
        return zeros_by_row(scores, pattern)
    return lowest(scores.reshape(1, -1), pattern.zeros(*scores.shape)).view(scores.shape)
