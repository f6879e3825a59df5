"""The order in which units are pruned, from their importance."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.importance.protocol import ExpertImportance, UnitImportance
from search_spaces.space.orders import Orders
from search_spaces.statistics import Statistics
from search_spaces.structure.expert_tensors import output_energy
from search_spaces.structure.model import ModelStructure


def rank_units(
    structure: ModelStructure,
    unit_importance: UnitImportance,
    statistics: Sequence[Statistics],
    expert_importance: ExpertImportance | None = None,
) -> Orders:
    """Order the members of each component from the most to the least important.

    Args:
        structure: The dense model, not permuted yet.
        unit_importance: The criterion for attentions and MLPs.
        statistics: Of each layer, as the criteria declare.
        expert_importance: The criterion for experts; None: they keep their order.

    Returns:
        For each component its members; ties keep their order. Channels of experts are ordered by
        the energy that they add to the hidden states, if that was measured.
    """
    orders, channels = [], {}
    for position, (component, weights) in enumerate(structure.matrices()):
        layer_statistics = statistics[component.layer]
        if component.experts is None:
            scores = unit_importance.importance(component, weights, layer_statistics)
            orders.append(_descending(scores))
            continue
        importance = torch.zeros(component.member_count)  # all alike
        if expert_importance is not None:
            importance = expert_importance.importance(component, weights, layer_statistics)
        by_group = _descending(importance.reshape(component.group_count, -1))
        first = np.arange(component.group_count)[:, None] * component.unit_count
        orders.append((first + by_group).ravel())
        if ("expert_channel_energy", component.experts.holder) in layer_statistics:
            energy = layer_statistics["expert_channel_energy", component.experts.holder]
            channels[position] = _descending(output_energy(component.experts, weights, energy))
    return Orders(members=tuple(orders), channels=channels)


def _descending(importance: Tensor) -> NDArray[np.int_]:
    """Sort positions along the last axis, most important first; ties keep their order."""
    order = torch.argsort(importance.float(), dim=-1, descending=True, stable=True)
    return order.cpu().numpy().astype(np.int_)
