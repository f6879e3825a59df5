"""A mixture of experts in each of its forms: how many stay, how many of them run, how wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.costs.cost_table import Floats, Weigh
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import as_matrices, tensor_at
from search_spaces.structure.experts import Experts, StackRole


@dataclass(frozen=True, kw_only=True)
class MixtureForms:
    """What a mixture keeps in each configuration; arrays broadcast to ``(options, units + 1)``."""

    kept: NDArray[np.int_]
    """Experts that stay."""
    running: NDArray[np.int_]
    """Experts of these that run for a token."""
    channels: NDArray[np.int_]
    """Channels of each of them."""

    @classmethod
    def of(
        cls, component: Component, experts: Experts, block_options: Sequence[BlockOptions]
    ) -> Self:
        """Lay out the forms of a component.

        Args:
            component: Its units.
            experts: What else is known of it.
            block_options: How it may be thinned out.
        """
        kept = component.group_count * np.arange(component.unit_count + 1)[None]
        top_ks = np.array([options.top_k or experts.top_k for options in block_options])[:, None]
        channels = [options.channels or experts.channel_count for options in block_options]
        return cls(
            kept=kept, running=np.minimum(top_ks, kept), channels=np.array(channels)[:, None]
        )


@dataclass(frozen=True, kw_only=True)
class ExpertWeights:
    """What the weights of a mixture come to, for each expert of the dense model."""

    row: float
    """Of its row in the router."""
    standing: float
    """However wide it is."""
    channel: float
    """Of each channel."""

    @classmethod
    def of(
        cls, layer: nn.Module, experts: Experts, weigh: Weigh, *, matrices_only: bool = False
    ) -> Self:
        """Weigh the router and the stacks of a layer.

        Args:
            layer: That holds them.
            experts: Of the layer.
            weigh: What one weight tensor costs.
            matrices_only: Whether biases of experts are left out.
        """
        costs = {
            stack.role: weigh(tensor_at(layer, stack.path))
            for stack in experts.stacks
            if stack.role in ("up", "down") or not matrices_only
        }
        standing = costs.pop("down_bias", 0.0)
        rows = sum(weigh(tensor_at(layer, path)) for path in experts.router_rows)
        return cls(
            row=rows / experts.count,
            standing=standing / experts.count,
            channel=sum(costs.values()) / experts.count / experts.channel_count,
        )

    def expert(self, channels: NDArray[np.int_] | int) -> Floats:
        """Give what one expert comes to with so many channels."""
        return np.asarray(self.standing + self.channel * channels)


def expert_matrix(layer: nn.Module, experts: Experts, role: StackRole) -> Tensor:
    """Give the matrices of all experts, ``(experts, outputs, inputs)``."""
    stack = experts.stack(role)
    return as_matrices(stack, tensor_at(layer, stack.path))
