"""The orders in which a model is sorted, so that every level is a prefix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Orders:
    """For each component its members from the last to go to the first to go."""

    members: Sequence[NDArray[np.int_]]
    """``(members,)`` each: units, or experts group by group, as the model has them."""
    channels: Mapping[int, NDArray[np.int_]] = field(default_factory=dict)
    """Of mixtures of experts, by their position, the channels of each expert in the model's own
    order, likewise, ``(members, channels)``; those that are missing keep theirs."""

    def __getitem__(self, position: int) -> NDArray[np.int_]:
        return self.members[position]

    def __iter__(self) -> Iterator[NDArray[np.int_]]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    def inverse(self) -> "Orders":
        """Give the orders that bring a sorted model back."""
        return Orders(
            members=tuple(np.argsort(order) for order in self.members),
            # they are looked at before the experts move back: in the sorted model's order of these
            channels={
                position: np.argsort(own[self.members[position]], axis=1)
                for position, own in self.channels.items()
            },
        )
