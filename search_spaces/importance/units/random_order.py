"""No criterion at all: what every ranking must beat."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomOrder:
    """Units count by lot, drawn from the name of their component: always the same."""

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],
        statistics: Statistics,  # noqa: ARG002
    ) -> Tensor:
        seed = hashlib.sha256(component.name.encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
        drawn = torch.rand(component.unit_count, generator=generator)
        return drawn.to(weights[component.projections[-1].path].device)
