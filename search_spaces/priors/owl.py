"""OWL: components with more outliers keep more of their weights."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.statistics import Statistics


def owl_shares(
    weights: Sequence[Mapping[str, Tensor]],
    statistics: Sequence[Statistics],
    *,
    multiple: float = 5.0,
    bound: float = 0.08,
) -> NDArray[np.float64]:
    """Compute by how much more than the average share of its weights each component keeps.

    A component's outliers are the share of its ``|W_ij| · ‖X_j‖`` above a multiple of their mean.
    These shares are stretched to a range of twice the bound and shifted to the mean 0, weighted by
    size; where one then lies beyond the bound, which the published code allows, all shrink.

    Args:
        weights: For each component the matrix ``(rows, columns)`` of each projection, by path.
        statistics: For each component those of its layer.
        multiple: M, of the mean.
        bound: λ, the most that a share differs from the average.

    Returns:
        ``(components,)``.

    References:
        Yin et al., 2024, "Outlier Weighed Layerwise Sparsity (OWL): A Missing Secret Sauce for
        Pruning LLMs to High Sparsity" (section 3.2; M = 5, λ = 0.08).
    """
    outliers = np.array(
        [_outliers(*pair, multiple) for pair in zip(weights, statistics, strict=True)]
    )
    sizes = [sum(weight.numel() for weight in matrices.values()) for matrices in weights]
    span = float(np.ptp(outliers))
    if not span:
        return np.zeros(len(weights))
    shares = outliers * (2 * bound / span)
    shares -= np.average(shares, weights=sizes)
    return np.asarray(shares * min(1.0, bound / float(np.abs(shares).max())))


def _outliers(weights: Mapping[str, Tensor], statistics: Statistics, multiple: float) -> float:
    """Compute the share of the outliers of one component."""
    products = []
    for path, weight in weights.items():
        norms = statistics["input_second_moment", path].sqrt().to(weight.device)
        products.append((weight.abs() * norms).flatten())
    scores = torch.cat(products)
    return float((scores > multiple * scores.mean()).double().mean())
