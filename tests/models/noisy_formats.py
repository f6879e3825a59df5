"""Weights in a number format by hand: the dense ones with noise, whose effect is known."""

from collections.abc import Sequence

import torch
from torch import Tensor

from search_spaces.pruned_weights.types import LinearWeights, PrunedWeights
from search_spaces.space.block_options import BlockOptions, combined_options
from search_spaces.space.number_format import FORMATS, STORED
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.layer_builder import LayerBuilder
from search_spaces.surgery.sort import sorted_as_is

FORMATTED = combined_options(formats=(STORED, FORMATS["Q8_0"], FORMATS["Q4_0"]))
"""Options of each component: the dense ones, then with a little noise, and with more."""


class NoisyFormats:
    """Source of weights whose noise is of a size for each format.

    Args:
        structure: The model, its units in pruning order.
        noise: Standard deviation as a share of the weights' own, by the name of the format.
    """

    def __init__(self, structure: ModelStructure, noise: dict[str, float]) -> None:
        self._structure = structure
        self._noise = noise

    def weights(self, position: int, count: int, options: BlockOptions) -> PrunedWeights:
        if options.format == STORED:
            return {}
        component = self._structure.components[position]
        whole = component.weights(self._structure.owner(component))
        found = {}
        for number, (path, weight) in enumerate(whole.items()):
            noisy = self.noisy(weight, position, number, options.format.name)
            for projection in component.projections:
                if projection.path == path:
                    kept = torch.from_numpy(projection.first(count))
                    noisy = noisy[kept] if projection.side == "rows" else noisy[:, kept]
            found[path] = LinearWeights(noisy)
        return found

    def noisy(self, weight: Tensor, position: int, number: int, name: str) -> Tensor:
        """Return a matrix with the noise of a format."""
        generator = torch.Generator().manual_seed(100 * position + number)
        drawn = torch.randn(weight.shape, generator=generator)
        return weight.detach() + self._noise[name] * weight.detach().std() * drawn


def noisy_builder(structure: ModelStructure, noise: dict[str, float]) -> LayerBuilder:
    """Return what builds layers of a model as it is, in formats of some noise."""
    source = NoisyFormats(structure, noise)
    return LayerBuilder(sorted_as_is(structure), options_of(structure), source)


def options_of(structure: ModelStructure) -> Sequence[Sequence[BlockOptions]]:
    """Return the same options for each component."""
    return [FORMATTED] * len(structure.components)
