"""What a level is made of: the weights that a component has there, where they are not slices."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.structure.components import Component


@dataclass(frozen=True)
class LinearWeights:
    """What a projection multiplies by and adds."""

    weight: Tensor
    """``(rows, columns)``"""
    bias: Tensor | None = None
    """All that is added, the dense layer's bias included, ``(rows,)``."""


PrunedWeights = Mapping[str, LinearWeights]
"""Of one component at one choice, by path inside the layer: those projections whose weights are no
plain slices of the sorted dense ones. Empty: all are."""


def in_own_order(
    level: PrunedWeights, component: Component, order: NDArray[np.int_], kept: NDArray[np.int_]
) -> PrunedWeights:
    """Put the features of a level in the order that they have in the model as it came.

    Args:
        level: Its features in the order of the sorted model.
        component: The component.
        order: Its units from the last to go to the first to go, ``(units,)``.
        kept: The units that it keeps, which are the first of these.
    """
    if len(level) == len(component.projections):
        # all of it is here, so that it may stay sorted; and must, for groups of columns to last
        return level
    if level:
        same = set(order[: len(kept)]) == set(kept)
        assert same, f"the level of {component.name} is of another order"
    owned = {}
    for projection in component.projections:
        matrix = level.get(projection.path)
        if matrix is None:
            continue
        features = projection.sorted_features(order)[projection.first(len(kept))]
        index = torch.from_numpy(np.argsort(features)).to(matrix.weight.device)
        if projection.side == "columns":
            owned[projection.path] = LinearWeights(matrix.weight[:, index], matrix.bias)
        else:
            bias = None if matrix.bias is None else matrix.bias[index]
            owned[projection.path] = LinearWeights(matrix.weight[index], bias)
    return owned
