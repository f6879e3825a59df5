"""Sorting the units of a model once, so that every width is a prefix of its weights."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.space.orders import Orders
from search_spaces.space.sorted_model import SortedModel
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import permute_


def sort_units_(
    structure: ModelStructure, orders: Orders | Sequence[NDArray[np.int_]]
) -> SortedModel:
    """Permute the units of a model in place into pruning order, the most important ones first.

    Args:
        structure: The model, its units in their own order; the return value holds the same object.
        orders: For each component its members by falling importance.
    """
    if not isinstance(orders, Orders):
        orders = Orders(members=tuple(orders))
    _permute_(structure, orders)
    return SortedModel(structure, orders, _permute_)


def sorted_as_is(structure: ModelStructure) -> SortedModel:
    """Return a model with its units' own order for a pruning order; no weight moves."""
    members = tuple(np.arange(component.member_count) for component in structure.components)
    return SortedModel(structure, Orders(members=members), _permute_)


@torch.no_grad()
def _permute_(structure: ModelStructure, orders: Orders) -> None:
    for position, (component, order) in enumerate(zip(structure.components, orders, strict=True)):
        if component.unit_choice is None:  # there is nothing to sort
            continue
        channels = orders.channels.get(position)
        change = partial(permute_, component=component, order=order, channels=channels)
        structure.backbone.change_(component.layer, change)
