"""Ordering the units of a model once, so that every level is a prefix of its weights."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.space.orders import Orders
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import permute_


@torch.no_grad()
def sort_units_(structure: ModelStructure, orders: Orders | Sequence[NDArray[np.int_]]) -> None:
    """Permute a model in place so that the units that stay longest come first."""
    channels = orders.channels if isinstance(orders, Orders) else {}
    for position, (component, order) in enumerate(zip(structure.components, orders, strict=True)):
        change = partial(
            permute_, component=component, order=order, channels=channels.get(position)
        )
        structure.backbone.change_(component.layer, change)
