"""Pruned weights: those of a component that are no slices of the dense ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.structure.components import Component


@dataclass(frozen=True)
class LinearWeights:
    """Weight and bias of a projection."""

    weight: Tensor
    """``(rows, columns)``"""
    bias: Tensor | None = None
    """The whole bias, the dense layer's included, ``(rows,)``."""


PrunedWeights = Mapping[str, LinearWeights]
"""Of one component, units kept and sparsity pattern, by path inside the layer: those projections
whose weights are no plain slices of the sorted dense ones. Empty: all are."""


def in_own_order(
    weights: PrunedWeights, component: Component, order: NDArray[np.int_], kept: NDArray[np.int_]
) -> PrunedWeights:
    """Put the features of pruned weights in the order that they have in the unsorted model.

    Args:
        weights: Their features in the order of the sorted model.
        component: The component.
        order: Its units, most important first, ``(units,)``.
        kept: Its kept units, which are the first of these.
    """
    if len(weights) == len(component.projections):
        # a whole component may stay sorted; and must, for N:M groups of columns to last
        return weights
    if weights:
        is_prefix = set(order[: len(kept)]) == set(kept)
        assert is_prefix, f"the weights of {component.name} are of another order"
    unsorted = {}
    for projection in component.projections:
        matrix = weights.get(projection.path)
        if matrix is None:
            continue
        features = projection.sorted_features(order)[projection.first(len(kept))]
        index = torch.from_numpy(np.argsort(features)).to(matrix.weight.device)
        if projection.side == "columns":
            unsorted[projection.path] = LinearWeights(matrix.weight[:, index], matrix.bias)
        else:
            bias = None if matrix.bias is None else matrix.bias[index]
            unsorted[projection.path] = LinearWeights(matrix.weight[index], bias)
    return unsorted
