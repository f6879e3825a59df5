"""Pruned weights in memory, of which the least recently used are evicted."""

from collections.abc import Hashable
from functools import cached_property

from search_spaces.models.memory import available_bytes
from search_spaces.pruned_weights.types import PrunedWeights

MEMORY_BYTES = 2**31
"""Bound on the weights of one `RecentWeights`; a quarter of the free memory where that is less."""


class RecentWeights:
    """The pruned weights used last, within a bound; one entry is kept however large."""

    def __init__(self) -> None:
        self._weights: dict[Hashable, PrunedWeights] = {}  # in order of last use

    def pop(self, key: Hashable) -> PrunedWeights | None:
        """Take weights out, to be added again once used; None if there are none."""
        return self._weights.pop(key, None)

    def add(self, key: Hashable, weights: PrunedWeights) -> None:
        """Add weights as the most recently used, and evict others beyond the bound."""
        self._weights[key] = weights
        while len(self._weights) > 1 and self._size() > self._room:
            del self._weights[next(iter(self._weights))]

    @cached_property
    def _room(self) -> int:
        return min(MEMORY_BYTES, available_bytes("cpu") // 4)

    def _size(self) -> int:
        """Count the bytes of the weights, biases left out."""
        return sum(
            matrix.weight.nbytes
            for weights in self._weights.values()
            for matrix in weights.values()
        )
