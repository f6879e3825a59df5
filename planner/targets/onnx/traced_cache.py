"""A cache of `transformers` whose keys and values go in and out of a graph as plain tensors."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

KeysAndValues = tuple[Tensor, Tensor]
"""Each ``(batch, heads, length, features)``."""


class TracedCache(Cache):
    """Holds all that was read, whatever a layer looks back on: its mask says that.

    Unlike the caches of `transformers` it knows its length without asking layer 0, which may have
    no attention.

    Args:
        past: Of each layer with an attention, by its number in the cache.
        length: Of all of them.
    """

    def __init__(self, past: Mapping[int, KeysAndValues], length: int) -> None:
        super().__init__(layers=[])
        self._past = past
        self._length = length
        self.present: dict[int, KeysAndValues] = {}
        """Past and new ones together, of each layer that has run."""

    def update(
        self,
        key_states: Tensor,
        value_states: Tensor,
        layer_idx: int,
        *_args: Any,
        **_kwargs: Any,
    ) -> KeysAndValues:
        """Return all keys and values of a layer, the new ones last."""
        keys, values = self._past[layer_idx]
        joined = torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
        self.present[layer_idx] = joined
        return joined

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return how much was read before."""
        return self._length

    def get_query_offset(self, layer_idx: int = 0) -> int:  # noqa: ARG002
        """Return the position of the first new token."""
        return self._length

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        """Return how many keys there are with the new ones, and where they begin."""
        return self._length + query_length, 0
