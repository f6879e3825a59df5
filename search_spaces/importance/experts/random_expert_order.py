"""No criterion at all: what every ranking must beat."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.importance.experts.unrouted import ROUTED, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomExpertOrder:
    """Experts that are used count by lot, drawn from the name of their component."""

    statistics: frozenset[StatisticName] = ROUTED

    def importance(
        self,
        component: Component,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        seed = hashlib.sha256(component.name.encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
        drawn = torch.rand(component.mixture.count, generator=generator)
        return unrouted_last(component, drawn, statistics)
