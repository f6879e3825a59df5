"""The size of the weights of an expert."""

from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.importance.experts.unrouted import ROUTED, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component
from search_spaces.structure.mixture import as_mixture


class ExpertMagnitude:
    """An expert counts by the sum of the squares of its weights."""

    statistics: frozenset[StatisticName] = ROUTED

    def importance(
        self, component: Component, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        stacks = [weights[stack.path] for stack in as_mixture(component).stacks]
        sums = torch.stack([stack.flatten(1).square().sum(dim=1) for stack in stacks])
        return unrouted_last(component, sums.sum(dim=0), statistics)
