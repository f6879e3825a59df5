"""Pruned weights: those of a component that are no slices of the dense ones."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.pruned_weights.quantized import QuantizedMatrix
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component


@dataclass(frozen=True)
class LinearWeights:
    """Weight and bias of a projection."""

    weight: Tensor
    """``(rows, columns)``; what `quantized` stands for, if there is that."""
    bias: Tensor | None = None
    """The whole bias, the dense layer's included, ``(rows,)``."""
    quantized: QuantizedMatrix | None = None
    """The bytes that an export writes of the weight; None: it is written as it is."""


PrunedWeights = Mapping[str, LinearWeights]
"""Of one component at one choice, by path inside the layer: those projections or stacks of experts
whose weights are no plain slices of the sorted dense ones. Empty: all are."""

Choice = tuple[int, BlockOptions]
"""Units that a component keeps, and with which options."""


@dataclass(frozen=True, kw_only=True)
class OrderedWeights:
    """Pruned weights of one component of a sorted model, for use once it is sorted no more."""

    weights: PrunedWeights
    """Their features in the order of the sorted model."""
    order: NDArray[np.int_]
    """In which that has the component's members, ``(members,)``."""


def in_own_order(
    ordered: OrderedWeights, component: Component, kept: NDArray[np.int_]
) -> PrunedWeights:
    """Put the features of pruned weights in the order that they have in the unsorted model.

    Args:
        ordered: The weights.
        component: The component.
        kept: Its kept units, the first ones of the sorted model.
    """
    weights, order = ordered.weights, ordered.order
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
