"""Pruned weights of mixtures of experts: merged, sparse and quantised ones."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.models.tensors import tensor_at
from search_spaces.pruned_weights.expert_merging import ExpertMerging
from search_spaces.pruned_weights.quantized import QuantizedMatrix, stacked
from search_spaces.pruned_weights.quantizers.protocol import Quantizer
from search_spaces.pruned_weights.quantizers.quantized_stacks import quantized_stack
from search_spaces.pruned_weights.quantizers.source_matrices import NO_SOURCES, SourceMatrices
from search_spaces.pruned_weights.sparsifiers.expert_stacks import sparse_stacks
from search_spaces.pruned_weights.sparsifiers.protocol import Sparsifier
from search_spaces.pruned_weights.types import Choice, LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.number_format import SOURCE, STORED
from search_spaces.space.sorted_model import SortedModel
from search_spaces.statistics import LayerStatistics, MatrixStatistics, StatisticName
from search_spaces.structure.linear import as_index
from search_spaces.structure.mixture import Mixture, Stack, as_mixture


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
        sources: Of stacks whose experts are to stay as they came.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        statistics: LayerStatistics,
        *,
        merging: ExpertMerging | None = None,
        sparsifier: Sparsifier | None = None,
        quantizer: Quantizer | None = None,
        sources: SourceMatrices = NO_SOURCES,
    ) -> None:
        self._structure = sorted_model.structure
        self._components = sorted_model.structure.components
        self._statistics = statistics
        self._orders = sorted_model.orders
        self._merging = merging
        self._sparsifier = sparsifier
        self._quantizer = quantizer
        self._sources = sources

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

    def linear(
        self,
        position: int,
        _choice: Choice,
        path: str,
        quantized: QuantizedMatrix,
        bias: Tensor | None,
    ) -> LinearWeights:
        weight = self._mixture(position).stack_at(path).as_matrices(quantized.dequantized())
        return LinearWeights(weight, bias, quantized)

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
        if not options.pattern.is_dense:
            assert self._sparsifier is not None, f"no sparsifier for the pattern {options.pattern}"
            sparse = sparse_stacks(
                component, stacks, options.pattern, self._sparsifier, statistics
            )
            stacks = {**stacks, **sparse}
        return self._formatted(position, (count, options), stacks, statistics)

    def _formatted(
        self,
        position: int,
        choice: Choice,
        stacks: Mapping[str, Tensor],
        statistics: MatrixStatistics,
    ) -> PrunedWeights:
        """Return stacks in the number format of their component."""
        if self._comes_whole(position, choice):
            stacks = self._in_own_channels(position, choice[0], stacks)
        weights = {path: LinearWeights(stack) for path, stack in stacks.items()}
        for stack in self._mixture(position).matrices:
            weight = stacks[stack.path]
            quantized = self._quantized(position, choice, stack, weight, statistics)
            if quantized is not None:
                weights[stack.path] = self.linear(position, choice, stack.path, quantized, None)
        return weights

    def _quantized(
        self,
        position: int,
        choice: Choice,
        stack: Stack,
        weight: Tensor,
        statistics: MatrixStatistics,
    ) -> QuantizedMatrix | None:
        """Return the bytes of a stack of matrices; None: it is in the dense model's format."""
        count, options = choice
        number_format = options.format
        if number_format == SOURCE:
            name = self._name(position, stack)
            number_format = self._sources.format_of(name)
            rows_came = stack.role == "up" and not self._merges(position, count)
            if number_format != STORED and (
                self._comes_whole(position, choice) or (rows_came and options.pattern.is_dense)
            ):
                experts = zip(self._kept(position, count), stack.as_matrices(weight), strict=True)
                return stacked([self._sources.matrix(name, each, int(e)) for e, each in experts])
            number_format = number_format.anew
        if number_format == STORED:
            return None
        assert self._quantizer is not None, f"no quantiser for the format {number_format}"
        return quantized_stack(stack, weight, number_format, self._quantizer, statistics)

    def _comes_whole(self, position: int, choice: Choice) -> bool:
        """Return whether kept experts stay as they came, channels in the model's own order."""
        count, options = choice
        is_whole = options.format == SOURCE and not options.channels
        return (
            is_whole
            and options.pattern.is_dense
            and not self._merges(position, count)
            and all(
                self._sources.format_of(self._name(position, stack)) != STORED
                for stack in self._mixture(position).matrices
            )
        )

    def _kept(self, position: int, count: int) -> NDArray[np.int_]:
        """Return the kept experts, as numbered in the unsorted model."""
        return self._mixture(position).members(self._orders[position], count)

    def _in_own_channels(
        self, position: int, count: int, stacks: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return stacks of kept experts whose channels are in the unsorted model's order."""
        if position not in self._orders.channels:
            return stacks
        places = np.argsort(self._orders.channels[position][self._kept(position, count)], axis=1)
        return {
            stack.path: stacks[stack.path]
            if stack.axis is None
            else torch.stack(
                [
                    expert.index_select(stack.axis - 1, as_index(stack.features(own)))
                    for expert, own in zip(stacks[stack.path], places, strict=True)
                ]
            )
            for stack in self._mixture(position).stacks
        }

    def _name(self, position: int, stack: Stack) -> str:
        """Return the name of a stack in the model."""
        return self._structure.tensor_name(self._mixture(position), stack.path)

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
