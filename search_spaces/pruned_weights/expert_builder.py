"""Pruned weights of mixtures of experts: merged and sparse ones, made on demand."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from search_spaces.models.tensors import tensor_at
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.recent import RecentWeights
from search_spaces.pruned_weights.sparsifiers.expert_stacks import sparse_stacks
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, MatrixStatistics, StatisticName
from search_spaces.structure.linear import as_index

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExpertWeightBuilder:
    """Makes the weights of mixtures that are no plain slices of the dense ones.

    Merging first, at the number of kept experts; then the kept channels are picked; then come the
    zeros, with the statistics of the kept dense experts.

    Args:
        sorted_model: The model.
        statistics: In the unsorted model's order.
        merging: Merges pruned experts into kept ones; None: they are removed.
        sparsifier: Makes matrices sparse, by statistics of experts; None: every pattern is dense.
        dtype: Of stored weights: they are rounded to it, and both scored and exported so.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        statistics: LayerStatistics,
        *,
        merging: ExpertMerging | None = None,
        sparsifier: Sparsifier | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._structure = sorted_model.structure
        self._components = sorted_model.structure.components
        self._statistics = statistics
        self._orders = sorted_model.orders
        self._merging = merging
        self._sparsifier = sparsifier
        self._dtype = dtype
        self._recent = RecentWeights()

    def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        """Return the weights of a choice by path; nothing where all are slices of the dense ones.

        Args:
            position: Of the mixture among the components.
            count: Units that it keeps.
            options: Of the kept experts.
        """
        merges = self._merging is not None and count < self._components[position].unit_count
        if not merges and options.pattern.is_dense:
            return {}
        # top-k changes no weight
        key = (position, count, BlockOptions(pattern=options.pattern, channels=options.channels))
        weights = self._recent.pop(key)
        if weights is None:
            weights = self._make(*key, merges=merges)
        self._recent.add(key, weights)
        return weights

    @torch.no_grad()
    def _make(
        self, position: int, count: int, options: BlockOptions, *, merges: bool
    ) -> PrunedWeights:
        component = self._components[position]
        experts = component.mixture
        statistics = self._sorted_statistics(position)
        with self._structure.backbone.resident(component.layer) as layer:
            stacks: Mapping[str, Tensor] = {
                stack.path: tensor_at(layer, stack.path).float() for stack in experts.stacks
            }
        members = torch.from_numpy(component.members(np.arange(component.member_count), count))
        if merges:
            assert self._merging is not None
            (stacks,) = self._merging.merged(component, stacks, [count], statistics)
        else:
            stacks = {path: stack[members] for path, stack in stacks.items()}
        channels = np.arange(options.channels or experts.channel_count)
        stacks = {
            stack.path: stacks[stack.path]
            if stack.axis is None
            else stacks[stack.path].index_select(
                stack.axis, as_index(stack.features(channels)).to(stacks[stack.path].device)
            )
            for stack in experts.stacks
        }
        if not options.pattern.is_dense:
            assert self._sparsifier is not None, f"no sparsifier for the pattern {options.pattern}"
            statistics = statistics.picked(experts=members.numpy(), channels=channels)
            sparse = sparse_stacks(experts, stacks, options.pattern, self._sparsifier, statistics)
            stacks = {**stacks, **sparse}
        return {path: LinearWeights(stack.to(self._dtype)) for path, stack in stacks.items()}

    def _sorted_statistics(self, position: int) -> MatrixStatistics:
        """Return the statistics of a mixture in the order in which it is sorted."""
        component, order = self._components[position], self._orders[position]
        holder = component.mixture.holder
        statistics = MatrixStatistics.of(self._statistics.of(component.layer), holder)
        statistics = statistics.picked(experts=order)
        name: StatisticName = "expert_channel_energy"
        if name not in statistics.values or position not in self._orders.channels:
            return statistics
        channels = as_index(self._orders.channels[position][order])
        energy = statistics[name].gather(1, channels)
        return MatrixStatistics(
            tokens=statistics.tokens, values={**statistics.values, name: energy}
        )
