"""Building the layers of a candidate from a sorted model and the configurations it chose."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions
from search_spaces.space.configuration import ConfigurationTables
from search_spaces.space.sorted_model import SortedModel
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.surgery.slice_and_cut import narrowed


class WeightSource(Protocol):
    """Source of the pruned weights of attentions and MLPs."""

    def weights(self, position: int, count: int, pattern: SparsityPattern) -> PrunedWeights:
        """Return them for one component that keeps some units with some pattern."""
        ...


class ExpertWeightSource(Protocol):
    """Source of the pruned weights of mixtures of experts."""

    def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        """Return them for one mixture that keeps some units with some options."""
        ...


class LayerBuilder:
    """Builds layers in given configurations, which share what they can with the dense model.

    Args:
        sorted_model: The model.
        block_options: The options of each component, the dense ones first; None: these alone.
        weight_source: Of compensated and sparse weights; None: all are slices of the dense ones.
        expert_weight_source: The same for experts.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        weight_source: WeightSource | None = None,
        expert_weight_source: ExpertWeightSource | None = None,
    ) -> None:
        structure = sorted_model.structure
        self.tables = ConfigurationTables.of(structure.components, block_options)
        self._structure = structure
        self._components = structure.components
        self.weight_source = weight_source
        self.expert_weight_source = expert_weight_source

    @property
    def block_options(self) -> tuple[tuple[BlockOptions, ...], ...]:
        """The options of each component, the dense ones first."""
        return tuple(table.options for table in self.tables)

    def layer(self, index: int, configurations: NDArray[np.int_]) -> nn.Module:
        """Return a layer whose components have these configurations, ``(components,)``."""
        start = self._structure.spans[index].start
        choices = []
        weights: dict[str, LinearWeights] = {}
        expert_options = DENSE_OPTIONS
        for position, configuration in enumerate(configurations.tolist(), start):
            component = self._components[position]
            count, options = self.tables[position][configuration]
            choices.append((component, count))
            weights |= self.weights(position, configuration)
            if component.experts is not None:
                expert_options = options
        dense_layer = self._structure.backbone.layers[index]
        return narrowed(dense_layer, choices, weights, expert_options)

    def weights(self, position: int, configuration: int) -> PrunedWeights:
        """Return the weights of a configuration that are no slices of the dense ones, by path."""
        if self.tables[position].is_plain(configuration):
            return {}
        count, options = self.tables[position][configuration]
        if self._components[position].experts is not None:
            if self.expert_weight_source is None:
                return {}
            return self.expert_weight_source.weights(position, count, options)
        if self.weight_source is None:
            return {}
        return self.weight_source.weights(position, count, options.pattern)
