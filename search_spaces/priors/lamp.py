"""LAMP: one threshold for all matrices on a weight's share of those that would be left."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.priors.magnitude_curve import removed_scores
from search_spaces.space.sparsity import SparsityPattern


def pattern_sensitivities(
    weights: Mapping[str, Tensor], patterns: Sequence[SparsityPattern]
) -> NDArray[np.float64]:
    """Sum the LAMP scores of the weights that magnitude would set to zero in one component.

    With the weights of a matrix ascending by size, ``score(u) = W_u² / Σ_{v ≥ u} W_v²``. It rises
    with the size, so that what has least sensitivity for each weight, over all components, is what
    lies below one threshold on the score.

    Args:
        weights: Matrix ``(rows, columns)`` of each projection of the component, by path.
        patterns: How many weights become zero.

    Returns:
        Additive over components, ``(patterns,)``.

    References:
        Lee, Park, Mo, Ahn & Shin, 2021, "Layer-Adaptive Sparsity for the Magnitude-Based Pruning"
        (equation 2).
    """
    return removed_scores(weights, patterns, lamp_scores)


def lamp_scores(sizes: Tensor) -> Tensor:
    """Compute the score of each weight of a matrix, zero for one that is zero.

    >>> import torch
    >>> lamp_scores(torch.tensor([0.0, 1.0, 1.0])).tolist()  # 0, 1 / (1 + 1) and 1 / 1
    [0.0, 0.5, 1.0]

    Args:
        sizes: Absolute weights, ascending, ``(weights,)``.
    """
    squares = sizes.square()
    left = squares.flip(0).cumsum(dim=0).flip(0)
    return (squares / left).where(squares > 0, 0.0)
