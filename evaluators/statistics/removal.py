"""What removing a layer, an attention or an MLP alone does to the NLL of the text."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from evaluators.likelihood import nll_sum
from evaluators.population import PrefixTree
from evaluators.statistics.names import PARTS, Key
from search_spaces.forms import Forms, unit_counts
from search_spaces.structure.backbone import LayerInputs
from search_spaces.structure.read import ModelStructure


@torch.no_grad()
def measure_removals(structure: ModelStructure, windows: Tensor) -> list[dict[Key, Tensor]]:
    """Remove each layer and each of its sub-blocks alone.

    Args:
        structure: The dense model.
        windows: Token ids ``(windows, tokens)``.

    Returns:
        Of each layer the rise of NLL in nats a token.
    """
    forms = removed_forms(structure)
    totals = np.zeros(len(forms))
    for member, nll in _nlls(structure, forms, windows):
        totals[member] += nll
    means = totals / (windows.numel() - len(windows))
    rises = (means[1:] - means[0]).reshape(-1, len(PARTS))
    return [
        {
            ("removal_nll", part): torch.tensor(rise, dtype=torch.float32)
            for part, rise in zip(PARTS, row, strict=True)
        }
        for row in rises
    ]


def removed_forms(structure: ModelStructure) -> Forms:
    """List the dense model, and then of each layer: without it, its attention, its MLP."""
    dense = unit_counts(structure.sub_blocks)
    forms = np.tile(dense, (1 + len(PARTS) * len(structure.layers), 1))
    for layer in range(len(structure.layers)):
        first, attention = 1 + len(PARTS) * layer, 2 * layer
        forms[first, attention : attention + 2] = 0
        forms[first + 1, attention] = 0
        forms[first + 2, attention + 1] = 0
    return forms


def _nlls(structure: ModelStructure, forms: Forms, windows: Tensor) -> Iterator[tuple[int, float]]:
    """Give candidates with the sum of NLL over some of the text, until all are through."""
    backbone, tree = structure.backbone, PrefixTree(structure)
    batches = torch.split(windows.to(backbone.model.device), 1)
    for batch, member, final in _finals(tree, forms, [(b, backbone.enter(b)) for b in batches]):
        yield member, nll_sum(backbone, final, batch)


def _finals(
    tree: PrefixTree, forms: Forms, batches: Sequence[tuple[Tensor, LayerInputs]]
) -> Iterator[tuple[Tensor, int, Tensor]]:
    """Give the final hidden states of each candidate on each batch."""
    if tree.structure.backbone.streamed:  # each layer is read once
        for index, member, final in tree.walk_by_layer(forms, [inputs for _, inputs in batches]):
            yield batches[index][0], member, final
        return
    for tokens, inputs in batches:
        for member, final in tree.walk(forms, inputs):
            yield tokens, member, final
