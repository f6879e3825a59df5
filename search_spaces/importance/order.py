"""The order in which units are pruned, from their importance."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces.importance.protocol import ExpertImportance, UnitImportance
from search_spaces.space.orders import Orders
from search_spaces.statistics import Statistics
from search_spaces.structure.components import UnitChoice
from search_spaces.structure.model import ModelStructure

_Criteria = Mapping[UnitChoice | None, UnitImportance | ExpertImportance | None]
"""By what is chosen of a component; None: all its members are alike."""


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
    criteria: _Criteria = {
        "heads": unit_importance,
        "channels": unit_importance,
        "experts": expert_importance,
        None: None,
    }
    orders, channels = [], {}
    for position, (component, weights) in enumerate(structure.matrices()):
        layer_statistics = {} if component in structure.ends else statistics[component.layer]
        criterion = criteria[component.unit_choice]
        importance = (
            torch.zeros(component.member_count)  # all alike
            if criterion is None
            else criterion.importance(component, weights, layer_statistics)
        )
        by_group = _descending(importance.reshape(component.group_count, -1))
        first = np.arange(component.group_count)[:, None] * component.unit_count
        orders.append((first + by_group).ravel())
        if component.channel_count and component.energy_statistic in layer_statistics:
            energy = component.output_energy(weights, layer_statistics)
            channels[position] = _descending(energy)
    return Orders(members=tuple(orders), channels=channels)


def _descending(importance: Tensor) -> NDArray[np.int_]:
    """Sort positions along the last axis, most important first; ties keep their order."""
    order = torch.argsort(importance.float(), dim=-1, descending=True, stable=True)
    return order.cpu().numpy().astype(np.int_)
