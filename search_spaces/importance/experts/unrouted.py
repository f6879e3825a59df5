"""A rule of all expert importances: an expert to which no token was sent is pruned first."""

import torch
from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component

ROUTED: frozenset[StatisticName] = frozenset({"expert_frequency"})
"""What every expert importance needs to know those experts."""


def measured(component: Component, statistics: Statistics, name: StatisticName) -> Tensor:
    """Return a statistic of the experts of a component, ``(experts, ...)``."""
    (path,) = component.statistic_paths("experts")
    return statistics[name, path]


def unrouted_last(component: Component, importance: Tensor, statistics: Statistics) -> Tensor:
    """Lower importances ``(experts,)`` so that unused experts have less than all others."""
    unused = measured(component, statistics, "expert_frequency").to(importance.device) <= 0
    if bool(unused.all()):  # as of a text without tokens: nothing tells them apart
        return torch.zeros_like(importance)
    least = importance[~unused].min()
    return importance.masked_fill(unused, float(least - least.abs().clamp(min=1.0)))
