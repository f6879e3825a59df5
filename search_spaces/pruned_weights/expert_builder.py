"""Pruned weights of mixtures of experts: merged, sparse and quantised ones."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from search_spaces.models.tensors import tensor_at
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.quantizers.quantized_stacks import quantized_stacks
from search_spaces.pruned_weights.sparsifiers.expert_stacks import sparse_stacks
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import STORED
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, MatrixStatistics, StatisticName
from search_spaces.structure.linear import as_index
from search_spaces.structure.mixture import Mixture, as_mixture


class ExpertBuilder:
    """Makes the weights of mixtures that are no plain slices of the dense ones, in float32.

    Merging first, at the number of kept experts; then the kept channels are picked; then come the
    zeros, and last the number format, with the statistics of the kept dense experts.

    Args:
        sorted_model: The model.
        statistics: In the unsorted model's order.
        merging: Merges pruned experts into kept ones; None: they are removed.
        sparsifier: Makes matrices sparse, by statistics of experts; None: every pattern is dense.
        quantizer: Puts matrices into number formats, likewise; None: no options have such.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        statistics: LayerStatistics,
        *,
        merging: ExpertMerging | None = None,
        sparsifier: Sparsifier | None = None,
        quantizer: Quantizer | None = None,
    ) -> None:
        self._structure = sorted_model.structure
        self._components = sorted_model.structure.components
        self._statistics = statistics
        self._orders = sorted_model.orders
        self._merging = merging
        self._sparsifier = sparsifier
        self._quantizer = quantizer

    def is_plain(self, position: int, count: int, options: BlockOptions) -> bool:
        return not count or (not options.rewrites and not self._merges(position, count))

    def shapes(
        self, position: int, count: int, options: BlockOptions
    ) -> Mapping[str, tuple[int, ...]]:
        component = self._mixture(position)
        layer = self._structure.backbone.layers[component.layer]
        shapes = {}
        for stack in component.stacks:
            shape = [*tensor_at(layer, stack.path).shape]
            shape[0] = count * component.group_count
            if stack.axis is not None and options.channels:
                shape[stack.axis] = shape[stack.axis] // component.channel_count * options.channels
            shapes[stack.path] = tuple(shape)
        return shapes

    def as_matrices(self, position: int, path: str, weight: Tensor) -> Tensor:
        stack = self._mixture(position).stack_at(path)
        return stack.as_matrices(weight) if stack.is_matrix else weight

    @torch.no_grad()
    def build(self, position: int, choices: Sequence[Choice]) -> Iterator[PrunedWeights]:
        for count, options in choices:
            yield self._weights(position, count, options)

    def _mixture(self, position: int) -> Mixture:
        return as_mixture(self._components[position])

    def _merges(self, position: int, count: int) -> bool:
        return self._merging is not None and count < self._components[position].unit_count

    def _weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        component = self._mixture(position)
        merges = self._merges(position, count)
        if options.rewrites or merges:
            self._statistics.of(component.layer)  # before the layer is in use
        with self._structure.backbone.resident(component.layer) as layer:
            stacks: Mapping[str, Tensor] = {
                stack.path: tensor_at(layer, stack.path).float() for stack in component.stacks
            }
        members = component.members(np.arange(component.member_count), count)
        if merges:
            assert self._merging is not None
            statistics = self._sorted_statistics(position)
            (stacks,) = self._merging.merged(component, stacks, [count], statistics)
        else:
            stacks = {path: stack[as_index(members)] for path, stack in stacks.items()}
        channels = np.arange(options.channels or component.channel_count)
        stacks = {
            stack.path: stacks[stack.path]
            if stack.axis is None
            else stacks[stack.path].index_select(
                stack.axis, as_index(stack.features(channels)).to(stacks[stack.path].device)
            )
            for stack in component.stacks
        }
        if not options.rewrites:
            return {path: LinearWeights(stack) for path, stack in stacks.items()}
        statistics = self._sorted_statistics(position).picked(experts=members, channels=channels)
        return self._rewritten(component, stacks, options, statistics)

    def _rewritten(
        self,
        component: Mixture,
        stacks: Mapping[str, Tensor],
        options: BlockOptions,
        statistics: MatrixStatistics,
    ) -> PrunedWeights:
        """Return stacks with zeros and in a number format, by statistics of the same experts."""
        if not options.pattern.is_dense:
            assert self._sparsifier is not None, f"no sparsifier for the pattern {options.pattern}"
            sparse = sparse_stacks(
                component, stacks, options.pattern, self._sparsifier, statistics
            )
            stacks = {**stacks, **sparse}
        weights = {path: LinearWeights(stack) for path, stack in stacks.items()}
        if options.format != STORED:
            assert self._quantizer is not None, f"no quantiser for the format {options.format}"
            quantized = quantized_stacks(
                component, stacks, options.format, self._quantizer, statistics
            )
            for path, matrices in quantized.items():
                weight = component.stack_at(path).as_matrices(matrices.dequantized())
                weights[path] = LinearWeights(weight, quantized=matrices)
        return weights

    def _sorted_statistics(self, position: int) -> MatrixStatistics:
        """Return the statistics of a mixture in the order in which it is sorted."""
        component, order = self._mixture(position), self._orders[position]
        holder = component.holder
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
