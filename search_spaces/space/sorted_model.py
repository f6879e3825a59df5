"""A model in pruning order, which owns that order."""

from dataclasses import dataclass

from search_spaces.space.orders import Orders
from search_spaces.structure.model import ModelStructure


@dataclass(frozen=True, kw_only=True)
class SortedModel:
    """A model whose units are in pruning order, so that every level is a prefix of its weights.

    Only `search_spaces.surgery.sort` makes one, for it moves the weights; the way back is
    `restore_units_` there, or `own_order` for a while.
    """

    structure: ModelStructure
    orders: Orders
    """Of each component: for each place in the sorted model, the member of the unsorted one."""
