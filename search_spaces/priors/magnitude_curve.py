"""The summed scores of the weights that magnitude sets to zero, pattern by pattern."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.pruned_weights.sparsifiers.masks import zeros_by_matrix
from search_spaces.space.sparsity import SparsityPattern


def removed_scores(
    weights: Mapping[str, Tensor],
    patterns: Sequence[SparsityPattern],
    scores_of: Callable[[Tensor], Tensor],
) -> NDArray[np.float64]:
    """Sum the scores of the weights that magnitude would set to zero.

    Args:
        weights: Matrix ``(rows, columns)`` of each projection, by path.
        patterns: How many weights become zero.
        scores_of: Computes the score of each weight of a matrix from their sizes, ascending,
            ``(weights,)`` in float64.

    Returns:
        Of all matrices together, ``(patterns,)``.

    Raises:
        SettingsError: If the rows of a matrix do not divide into a pattern's groups.
    """
    totals = np.zeros(len(patterns))
    for path, weight in weights.items():
        sizes = weight.abs()
        ascending, order = sizes.flatten().sort(stable=True)
        scores = scores_of(ascending.double())
        running = torch.nn.functional.pad(scores.cumsum(dim=0), (1, 0))
        in_place = torch.empty_like(scores).scatter_(0, order, scores).view(sizes.shape)
        for index, pattern in enumerate(patterns):
            pattern.check_fits(weight.shape[1], path)
            if pattern.group:
                totals[index] += float(in_place[zeros_by_matrix(sizes, pattern)].sum())
            else:
                totals[index] += float(running[pattern.zeros(*weight.shape)])
    return totals
