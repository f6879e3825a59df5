"""One threshold for all matrices on what a weight is of those that would be left."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.priors.magnitude_curve import removed_scores
from search_spaces.space.sparsity import SparsityPattern


def pattern_sensitivities(
    weights: Mapping[str, Tensor], patterns: Sequence[SparsityPattern]
) -> NDArray[np.float64]:
    """Give the summed LAMP score of what magnitude would set to zero in one component.

    With the weights of a matrix ascending by size, ``score(u) = W_u² / Σ_{v ≥ u} W_v²``. It rises
    with the size, so that what does least harm for each weight, over all components, is what lies
    below one threshold on the score.

    Args:
        weights: Matrix ``(rows, columns)`` of each projection of the component, by path.
        patterns: How many weights go.

    Returns:
        Additive over components, ``(patterns,)``.

    References:
        Lee, Park, Mo, Ahn & Shin, 2021, "Layer-Adaptive Sparsity for the Magnitude-Based Pruning"
        (equation 2).
    """
    return removed_scores(weights, patterns, lamp_scores)


def lamp_scores(sizes: Tensor) -> Tensor:
    """Give the score of each weight of a matrix, zero for one that is zero.

    Args:
        sizes: Absolute weights, ascending, ``(weights,)``.
    """
    squares = sizes.square()
    left = squares.flip(0).cumsum(dim=0).flip(0)
    return (squares / left).where(squares > 0, 0.0)
