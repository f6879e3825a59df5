"""Ordering the units of a model once, so that every level is a prefix of its weights."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from search_spaces.rankings.protocol import Ranking
from search_spaces.statistics import Statistics
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
    for block, weights in structure.matrices():
        importance = ranking.importance(block, weights, statistics[block.layer])
        order = torch.argsort(importance.float(), descending=True, stable=True)
        orders.append(order.cpu().numpy().astype(np.int_))
    return tuple(orders)


@torch.no_grad()
def sort_units_(structure: ModelStructure, orders: Sequence[NDArray[np.int_]]) -> None:
    """Permute a model in place so that the units that stay longest come first."""
    for block, order in zip(structure.sub_blocks, orders, strict=True):
        structure.backbone.change_(block.layer, partial(permute_, block=block, order=order))
