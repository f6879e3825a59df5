"""Pruning orders: the orders in which a model is sorted, so that every level is a prefix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orders:
    """For each component its members by falling importance: the first to be pruned is last."""

    members: Sequence[NDArray[np.int_]]
    """``(members,)`` each: units, or experts group by group, as numbered in the model."""
    channels: Mapping[int, NDArray[np.int_]] = field(default_factory=dict)
    """For mixtures of experts, by position, the channels of each expert by falling importance,
    experts as numbered in the model, ``(members, channels)``; missing ones stay unsorted."""

    def __getitem__(self, position: int) -> NDArray[np.int_]:
        return self.members[position]

    def __iter__(self) -> Iterator[NDArray[np.int_]]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def inverse(self) -> "Orders":
        """Return the orders that restore a sorted model."""
        return Orders(
            members=tuple(np.argsort(order) for order in self.members),
            # channels are restored before their experts, which are still in sorted order then
            channels={
                position: np.argsort(channel_orders[self.members[position]], axis=1)
                for position, channel_orders in self.channels.items()
            },
        )
