"""Sorting the units of a model once, so that every width is a prefix of its weights."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.space.orders import Orders
from search_spaces.structure.model import ModelStructure, SortedModel
from search_spaces.surgery.slice_and_cut import permute_


@torch.no_grad()
def sort_units_(
    structure: ModelStructure, orders: Orders | Sequence[NDArray[np.int_]]
) -> SortedModel:
    """Permute the units of a model in place into pruning order, the most important ones first.

    Args:
        structure: The model; the return value is the same object.
        orders: For each component its members by falling importance.
    """
    channels = orders.channels if isinstance(orders, Orders) else {}
    for position, (component, order) in enumerate(zip(structure.components, orders, strict=True)):
        change = partial(
            permute_, component=component, order=order, channels=channels.get(position)
        )
        structure.backbone.change_(component.layer, change)
    return SortedModel(structure)
