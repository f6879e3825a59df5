"""A mixture of experts in each configuration: how many are kept, how many run, how wide."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from evaluators.costs.cost_table import Floats, WeightCost
from search_spaces.models.tensors import tensor_at
from search_spaces.space.block_options import BlockOptions
from search_spaces.structure.components import Component
from search_spaces.structure.expert_tensors import as_matrices
from search_spaces.structure.experts import Experts, StackRole


@dataclass(frozen=True, kw_only=True)
class MixtureConfigurations:
    """What a mixture keeps in each configuration; arrays broadcast to ``(options, units + 1)``."""

    kept: NDArray[np.int_]
    """Experts kept."""
    running: NDArray[np.int_]
    """Of these, experts that run for a token."""
    channels: NDArray[np.int_]
    """Channels of each expert."""

    @classmethod
    def of(
        cls, component: Component, experts: Experts, block_options: Sequence[BlockOptions]
    ) -> Self:
        """Lay out the configurations of a component.

        Args:
            component: Its units.
            experts: Its experts.
            block_options: Its options.
        """
        kept = component.group_count * np.arange(component.unit_count + 1)[None]
        top_ks = np.array([options.top_k or experts.top_k for options in block_options])[:, None]
        channels = [options.channels or experts.channel_count for options in block_options]
        return cls(
            kept=kept, running=np.minimum(top_ks, kept), channels=np.array(channels)[:, None]
        )


@dataclass(frozen=True, kw_only=True)
class ExpertWeights:
    """Cost of a mixture's weights, for each expert of the dense model."""

    row: float
    """Of an expert's row in the router."""
    standing: float
    """Of an expert, whatever its width."""
    channel: float
    """Of each channel."""

    @classmethod
    def of(
        cls,
        layer: nn.Module,
        experts: Experts,
        weight_cost: WeightCost,
        *,
        matrices_only: bool = False,
    ) -> Self:
        """Return the cost of the router and the stacks of a layer.

        Args:
            layer: That holds them.
            experts: Of the layer.
            weight_cost: What one weight tensor costs.
            matrices_only: Whether biases of experts are left out.
        """
        costs = {
            stack.role: weight_cost(tensor_at(layer, stack.path))
            for stack in experts.stacks
            if stack.role in ("up", "down") or not matrices_only
        }
        standing = costs.pop("down_bias", 0.0)
        rows = sum(weight_cost(tensor_at(layer, path)) for path in experts.router_rows)
        return cls(
            row=rows / experts.count,
            standing=standing / experts.count,
            channel=sum(costs.values()) / experts.count / experts.channel_count,
        )

    def expert(self, channels: NDArray[np.int_] | int) -> Floats:
        """Return the cost of one expert with so many channels."""
        return np.asarray(self.standing + self.channel * channels)


def expert_matrix(layer: nn.Module, experts: Experts, role: StackRole) -> Tensor:
    """Return the matrices of all experts, ``(experts, outputs, inputs)``."""
    stack = experts.stack(role)
    return as_matrices(stack, tensor_at(layer, stack.path))
