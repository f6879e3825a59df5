"""Models whose layers are cut for real, and the configurations that say how."""

import copy

import numpy as np
from numpy.typing import NDArray
from torch import nn

from search_spaces.space.block_options import BlockOptions, ExpertPruning, combined_options
from search_spaces.space.configuration import Configurations, ConfigurationTables, unit_counts
from search_spaces.space.sparsity import DENSE, SparsityPattern
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.slice_and_cut import cut


def pruned(structure: ModelStructure, kept: NDArray[np.int_]) -> nn.Module:
    """A model whose layers are cut for real and whose empty layers are gone."""
    model = copy.deepcopy(structure.backbone.model)
    parent_path, _, name = structure.backbone.stack.path.rpartition(".")
    layers = []
    for index, layer in enumerate(structure.layers):
        counts = kept[2 * index : 2 * index + 2]
        choices = zip(layer.components, map(np.arange, counts), strict=True)
        if counts.any():
            layers.append(cut(structure.backbone.layers[index], choices))
    setattr(model.get_submodule(parent_path), name, nn.ModuleList(layers))
    return model


def ways(
    structure: ModelStructure, patterns: tuple[SparsityPattern, ...] = (DENSE,)
) -> list[tuple[BlockOptions, ...]]:
    """Ways to thin out each component: two widths of experts, and one or all that run."""
    return [
        combined_options(
            patterns,
            (0, 4) if component.channel_count else (0,),
            (0, 1) if component.least_top_k < component.top_k else (0,),
        )
        for component in structure.components
    ]


def random_configurations(
    structure: ModelStructure, count: int, patterns: int = 1
) -> Configurations:
    """The dense model, one with nothing left in its feed-forwards, and others."""
    rng = np.random.default_rng(7)
    widths = unit_counts(structure.components)
    kinds = np.array([component.kind for component in structure.components])
    lowest = [component.lowest for component in structure.components]
    kept = rng.integers(lowest, widths + 1, size=(count, len(widths)))
    kept *= rng.random(kept.shape) < 0.8
    each = [len(own) for own in ways(structure, (DENSE,) * patterns)]
    chosen = rng.integers(each, size=kept.shape)
    kept[0], chosen[0] = widths, 0
    kept[1] = np.where(kinds == "attention", widths, 0)
    tables = ConfigurationTables.of(structure.components, ways(structure, (DENSE,) * patterns))
    return tables.index(kept, chosen)


def cut_layers(structure: ModelStructure, configuration: NDArray[np.int_]) -> dict[int, nn.Module]:
    """The layers that keep anything, cut for real."""
    tables = ConfigurationTables.of(structure.components, ways(structure))
    kept, chosen = tables.units(configuration), tables.options_index(configuration)
    layers = {}
    for index, (layer, span) in enumerate(zip(structure.layers, structure.spans, strict=True)):
        choices, thinned = [], []
        for position, component in enumerate(layer.components, span.start):
            members = component.members(np.arange(component.member_count), int(kept[position]))
            choices.append((component, np.sort(members)))
            way = ways(structure)[position][chosen[position]]
            width = np.tile(np.arange(way.channels), (len(members), 1))
            channels = width if way.channels else None
            thinned.append(ExpertPruning(channels=channels, top_k=way.top_k))
        if kept[span].any():
            layers[index] = cut(structure.backbone.layers[index], choices, (), thinned)
    return layers
