"""Pruned weights: those of a component that are no slices of the dense ones."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

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
    as_it_came: bool = False
    """Whether `quantized` has rows and columns in the unsorted model's order, unlike `weight`: so
    they are in the file that the model came from, and columns stay where they are."""


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


def stays_sorted(weights: PrunedWeights, component: Component) -> bool:
    """Return whether a whole component stays in pruning order once it is cut.

    It may if all its weights are rewritten, and must for N:M groups and blocks of columns to last;
    but not where these are those of a file.
    """
    is_rewritten = len(weights) >= max(1, len(component.projections))
    return is_rewritten and not any(matrix.as_it_came for matrix in weights.values())


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
    if stays_sorted(weights, component):
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
            weight, bias = matrix.weight[:, index], matrix.bias
        else:
            weight = matrix.weight[index]
            bias = None if matrix.bias is None else matrix.bias[index]
        unsorted[projection.path] = replace(matrix, weight=weight, bias=bias)
    return unsorted
