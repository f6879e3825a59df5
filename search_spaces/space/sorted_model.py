"""A model in pruning order, which owns that order and the way back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from search_spaces.space.orders import Orders
from search_spaces.structure.model import ModelStructure


class SortedModel:
    """A model whose units are in pruning order, so that every level is a prefix of its weights.

    Only `search_spaces.surgery.sort` makes one, for it moves the weights.

    Args:
        structure: The model, sorted.
        orders: Of each component: for each place in the sorted model, the member of the unsorted
            one.
        permute_: Moves the units of a model in place into some orders.
    """

    def __init__(
        self,
        structure: ModelStructure,
        orders: Orders,
        permute_: Callable[[ModelStructure, Orders], None],
    ) -> None:
        self.orders = orders
        self._structure = structure
        self._permute_ = permute_
        self._is_sorted = True

    @property
    def structure(self) -> ModelStructure:
        """The model, for those who rely on its order; so it must still be in it."""
        assert self._is_sorted, "the units of this model are in their own order again"
        return self._structure

    def restore_(self) -> ModelStructure:
        """Move the units back into their own order for good, and return the model."""
        structure = self.structure
        self._is_sorted = False
        self._permute_(structure, self.orders.inverse())
        return structure

    @contextmanager
    def own_order(self) -> Iterator[ModelStructure]:
        """Give the model with its units in their own order, and sort it again afterwards."""
        structure = self.restore_()
        try:
            yield structure
        finally:
            self._permute_(structure, self.orders)
            self._is_sorted = True
