"""Sorting the units of a model once, so that every width is a prefix of its weights."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    return SortedModel(structure=structure, orders=orders)


def sorted_as_is(structure: ModelStructure) -> SortedModel:
    """Return a model with its units' own order for a pruning order; no weight moves."""
    members = tuple(np.arange(component.member_count) for component in structure.components)
    return SortedModel(structure=structure, orders=Orders(members=members))


def restore_units_(sorted_model: SortedModel) -> ModelStructure:
    """Permute the units of a sorted model in place back into their own order.

    The sorted model must not be used any more.
    """
    _permute_(sorted_model.structure, sorted_model.orders.inverse())
    return sorted_model.structure


@contextmanager
def own_order(sorted_model: SortedModel) -> Iterator[ModelStructure]:
    """Give the model with its units in their own order, and sort it again afterwards."""
    structure = restore_units_(sorted_model)
    try:
        yield structure
    finally:
        _permute_(structure, sorted_model.orders)


@torch.no_grad()
def _permute_(structure: ModelStructure, orders: Orders) -> None:
    for position, (component, order) in enumerate(zip(structure.components, orders, strict=True)):
        channels = orders.channels.get(position)
        change = partial(permute_, component=component, order=order, channels=channels)
        structure.backbone.change_(component.layer, change)
