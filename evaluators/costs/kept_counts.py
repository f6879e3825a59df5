"""What a component keeps in each configuration: how much of it, how much runs, how wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from evaluators.costs.cost_table import Floats
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component, UnitWeight


@dataclass(frozen=True, kw_only=True)
class KeptCounts:
    """What a component keeps in each configuration; arrays broadcast to ``(options, units + 1)``.

    A member is a unit, or an expert.
    """

    component: Component
    members: NDArray[np.int_]
    """Members kept."""
    running: NDArray[np.int_]
    """Of these, members that run for a token."""
    channels: NDArray[np.int_]
    """Channels of each member, 0 where it has none of its own."""

    @classmethod
    def of(cls, component: Component, block_options: Sequence[BlockOptions]) -> Self:
        """Lay out the configurations of a component with its options."""
        members = component.group_count * np.arange(component.unit_count + 1)[None]
        all_run = component.top_k or component.member_count
        top_ks = np.array([options.top_k or all_run for options in block_options])[:, None]
        channels = [options.channels or component.channel_count for options in block_options]
        return cls(
            component=component,
            members=members,
            running=np.minimum(top_ks, members),
            channels=np.array(channels)[:, None],
        )

    def cost(self, weight: UnitWeight, dense_cost: float, *, running: bool = False) -> Floats:
        """Return what is left of the cost of a weight.

        Args:
            weight: Of the component.
            dense_cost: Of it in the dense model; it is proportional to its size.
            running: Whether it counts only for members that run for a token.
        """
        each = dense_cost / self.component.member_count
        counts = self.running if running and weight.role != "router" else self.members
        if weight.is_stacked and weight.side:
            return np.asarray(counts * (each / self.component.channel_count * self.channels))
        return np.asarray(each * counts)

    def shape(
        self, weight: UnitWeight, index: int
    ) -> tuple[NDArray[np.int_], NDArray[np.int_], NDArray[np.int_]]:
        """Return the number, rows and columns of a weight's matrices with some options.

        Args:
            weight: Of the component; a matrix, or one for each member.
            index: Of the options.
        """
        *_, rows, columns = weight.tensor.shape
        whole, kept = self.component.member_count, self.members[0]
        copies = np.ones_like(kept)
        if weight.is_stacked:
            whole, copies, kept = self.component.channel_count, kept, self.channels[index]
        if weight.side == "rows":
            return copies, rows // whole * kept, np.array(columns)
        return copies, np.array(rows), columns // whole * kept
