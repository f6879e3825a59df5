"""Global magnitude: one threshold for all matrices on the size of a weight, with a floor."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.priors.magnitude_curve import removed_scores
from search_spaces.space.sparsity import SparsityPattern

# the size that a weight below the floor counts as: above any real one, and not infinite, so that
# differences of sensitivities are numbers
_BARRED = 1e6


def pattern_sensitivities(
    weights: Mapping[str, Tensor], patterns: Sequence[SparsityPattern], *, floor: float = 0.1
) -> NDArray[np.float64]:
    """Sum the sizes of the weights that magnitude would set to zero in one component.

    What has least sensitivity for each weight, over all components, is what lies below one
    threshold.
    Without a floor, that empties matrices whose weights are small throughout.

    Args:
        weights: Matrix ``(rows, columns)`` of each projection of the component, by path.
        patterns: How many weights become zero.
        floor: Share of its weights that every matrix keeps; each one below it counts as a million.

    Returns:
        Additive over components, ``(patterns,)``.

    References:
        Blalock, Gonzalez Ortiz, Frankle & Guttag, 2020, "What is the State of Neural Network
        Pruning?" (global magnitude).
    """
    sensitivities = removed_scores(weights, patterns, lambda sizes: sizes)
    for weight in weights.values():
        allowed = int(weight.numel() * (1.0 - floor))
        zeros = np.array([pattern.zeros(*weight.shape) for pattern in patterns])
        sensitivities += _BARRED * np.maximum(zeros - allowed, 0)
    return sensitivities
