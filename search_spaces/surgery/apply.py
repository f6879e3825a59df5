"""Giving the layers of a sorted model the forms that a candidate chose."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import DENSE_OPTIONS, BlockOptions, combined_options
from search_spaces.space.sparsity import SparsityPattern
from search_spaces.structure.components import Component
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import narrowed


class WeightSource(Protocol):
    """Knows the weights of components that are more than a part of the dense ones."""

    def level(self, position: int, count: int, pattern: SparsityPattern) -> PrunedWeights:
        """Give them for one component, the units that it keeps and its pattern."""
        ...


class ExpertWeightSource(Protocol):
    """Knows the weights of mixtures of experts that are more than a part of the dense ones."""

    def level(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        """Give them for one mixture, the units that it keeps and how they are thinned out."""
        ...


class LayerBuilder:
    """Turns forms into layers, which share what they can with the dense model.

    Args:
        structure: The model, its units sorted so that the first ones stay.
        block_options: For each component how it may be thinned out, the dense way first; none:
            not.
        levels: Where compensated and sparse weights come from; none: all are the dense model's.
        expert_levels: Likewise those of experts.
    """

    def __init__(
        self,
        structure: ModelStructure,
        block_options: Sequence[Sequence[BlockOptions]] | None = None,
        levels: WeightSource | None = None,
        expert_levels: ExpertWeightSource | None = None,
    ) -> None:
        components = structure.components
        self.block_options = tuple(block_options or [combined_options()] * len(components))
        self._structure = structure
        self._blocks = components
        self.levels = levels
        self.expert_levels = expert_levels

    def layer(self, index: int, configurations: NDArray[np.int_]) -> nn.Module:
        """Give a layer whose components have these forms, ``(components,)``."""
        start = self._structure.spans[index].start
        choices: list[tuple[Component, int]] = []
        level: dict[str, LinearWeights] = {}
        thinned = DENSE_OPTIONS
        for position, configuration in enumerate(configurations.tolist(), start):
            component, count, options = self._read(position, configuration)
            choices.append((component, count))
            level |= self.level(position, configuration)
            if component.experts is not None:
                thinned = options
        return narrowed(self._structure.backbone.layers[index], choices, level, thinned)

    def level(self, position: int, configuration: int) -> PrunedWeights:
        """Give the weights of a form that are not plain parts of the dense ones, by path."""
        component, count, options = self._read(position, configuration)
        if configuration in (0, component.unit_count):
            return {}
        if component.experts is not None:
            own = self.expert_levels
            return {} if own is None else own.level(position, count, options)
        return {} if self.levels is None else self.levels.level(position, count, options.pattern)

    def _read(self, position: int, configuration: int) -> tuple[Component, int, BlockOptions]:
        component = self._blocks[position]
        options, count = divmod(configuration, component.unit_count + 1)
        return component, count, self.block_options[position][options]
