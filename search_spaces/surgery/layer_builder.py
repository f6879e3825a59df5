"""Building the layers of a candidate from a sorted model and the configurations it chose."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions
from search_spaces.space.configuration import Configurations, ConfigurationTables
from search_spaces.space.number_format import STORED
from search_spaces.space.sorted_model import SortedModel
from search_spaces.surgery.rounded_cache import WithRoundedCache
from search_spaces.surgery.slice_and_cut import narrowed


class WeightSource(Protocol):
    """Source of weights that are no slices of the dense ones."""

    def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        """Return them for one component that keeps some units with some options."""
        ...


class LayerBuilder:
    """Builds layers in given configurations, which share what they can with the dense model.

    Args:
        sorted_model: The model.
        block_options: The options of each component, the dense ones first; None: these alone.
        weight_source: Of weights that are no slices of the dense ones; None: all are.
    """

    def __init__(
        self,
        sorted_model: SortedModel,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        weight_source: WeightSource | None = None,
    ) -> None:
        structure = sorted_model.structure
        self.tables = ConfigurationTables.of(structure.components, block_options)
        self._structure = structure
        self._components = structure.components
        self.weight_source = weight_source
        self._made: set[tuple[int, int]] = set()

    @property
    def block_options(self) -> tuple[tuple[BlockOptions, ...], ...]:
        """The options of each component, the dense ones first."""
        return tuple(table.options for table in self.tables)

    def layer(self, index: int, configurations: NDArray[np.int_]) -> nn.Module:
        """Return a layer whose components have these configurations, ``(components,)``."""
        start = self._structure.spans[index].start
        choices, all_options = [], []
        weights: dict[str, LinearWeights] = {}
        for position, configuration in enumerate(configurations.tolist(), start):
            component = self._components[position]
            count, options = self.tables[position][configuration]
            choices.append((component, count))
            all_options.append(options)
            weights |= self.weights(position, configuration)
        dense_layer = self._structure.backbone.layers[index]
        layer = narrowed(dense_layer, choices, weights, all_options)
        for (component, count), options in zip(choices, all_options, strict=True):
            if count and component.cached_features and options.cache != STORED:
                return WithRoundedCache(layer, options.cache)
        return layer

    def make(self, configurations: Configurations) -> None:
        """Make weights that are missing for candidates, before several processes do so at a time.

        They are recorded so, too: the record is written by one process.

        Args:
            configurations: ``(candidates, components)``
        """
        chosen = [np.unique(of_component).tolist() for of_component in configurations.T]
        self.make_options(dict(enumerate(chosen)))

    def make_options(self, options: Mapping[int, Sequence[int]]) -> None:
        """Make weights that are missing for configurations of components, by their positions."""
        for position, configurations in options.items():
            for configuration in configurations:
                if (position, configuration) not in self._made:
                    self.weights(position, configuration)
                    self._made.add((position, configuration))

    @torch.inference_mode(mode=False)  # gradients may be taken through them later
    @torch.no_grad()
    def weights(self, position: int, configuration: int) -> PrunedWeights:
        """Return the weights of a configuration that are no slices of the dense ones, by path."""
        if self.weight_source is None or self.tables[position].is_plain(configuration):
            return {}
        return self.weight_source.weights(position, *self.tables[position][configuration])
