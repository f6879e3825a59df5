"""The rise of NLL from removing a layer, an attention or an MLP alone."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from evaluators.collectors.names import PARTS, Key
from evaluators.scoring.likelihood import nll_sum
from evaluators.scoring.prefix_tree import PrefixTree
from search_spaces.space.configuration import Configurations, dense_configurations
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.model import ModelStructure
from search_spaces.surgery.sort import sorted_as_is


@torch.no_grad()
def measure_removals(structure: ModelStructure, windows: Tensor) -> list[dict[Key, Tensor]]:
    """Remove each layer and each of its components alone.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.

    Returns:
        For each layer the rise of NLL in nats a token.
    """
    backbone, tree = structure.backbone, PrefixTree(sorted_as_is(structure))
    configurations = removal_configurations(structure)
    tokens = windows.to(backbone.model.device)
    nlls = np.zeros(len(configurations))
    for member, final in _finals(tree, configurations, backbone.enter(tokens)):
        nlls[member] = nll_sum(backbone, final, tokens) / windows[:, 1:].numel()
    rises = (nlls[1:] - nlls[0]).reshape(-1, len(PARTS))
    return [
        {
            ("removal_nll", part): torch.tensor(rise, dtype=torch.float32)
            for part, rise in zip(PARTS, row, strict=True)
        }
        for row in rises
    ]


def removal_configurations(structure: ModelStructure) -> Configurations:
    """Return the dense model, then, for each layer, without it, its attention, or its MLP."""
    dense = dense_configurations(structure.components)
    configurations = np.tile(dense, (1 + len(PARTS) * len(structure.layers), 1))
    for position, component in enumerate(structure.in_layers):
        first = 1 + len(PARTS) * component.layer
        part = 1 if component.mixes_tokens else 2
        configurations[[first, first + part], position] = 0
    return configurations


def _finals(
    tree: PrefixTree, configurations: Configurations, inputs: LayerInputs
) -> Iterator[tuple[int, Tensor]]:
    """Yield the final hidden states of each candidate."""
    if not tree.structure.backbone.streamed:
        yield from tree.walk(configurations, inputs)
        return
    for _, member, final in tree.walk_by_layer(configurations, [inputs]):  # reads a layer once
        yield member, final
