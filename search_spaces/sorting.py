"""Ordering the units of a model once, so that every level is a prefix of its weights."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.rankings.protocol import Ranking, Statistics
from search_spaces.structure.linears import matrix
from search_spaces.structure.read import ModelStructure
from search_spaces.surgery import permute_


def rank_units(
    structure: ModelStructure, ranking: Ranking, statistics: Sequence[Statistics]
) -> tuple[NDArray[np.int_], ...]:
    """Order the units of each sub-block from the last to go to the first to go.

    Args:
        structure: The dense model, not permuted yet.
        ranking: The criterion.
        statistics: Of each layer, as the ranking asked.

    Returns:
        For each sub-block its units, ``(units,)``; ties keep their order.
    """
    orders = []
    for block in structure.sub_blocks:
        layer = structure.backbone.layers[block.layer]
        weights = {p.path: matrix(layer.get_submodule(p.path)).float() for p in block.projections}
        importance = ranking.importance(block, weights, statistics[block.layer])
        order = torch.argsort(importance.float(), descending=True, stable=True)
        orders.append(order.cpu().numpy().astype(np.int_))
    return tuple(orders)


@torch.no_grad()
def sort_units_(structure: ModelStructure, orders: Sequence[NDArray[np.int_]]) -> None:
    """Permute a model in place so that the units that stay longest come first."""
    for block, order in zip(structure.sub_blocks, orders, strict=True):
        permute_(structure.backbone.layers[block.layer], block, order)
