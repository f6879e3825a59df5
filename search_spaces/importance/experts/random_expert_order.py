"""No criterion at all: the baseline that every importance must beat."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.importance.experts.unrouted import ROUTED, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomExpertOrder:
    """A used expert counts by a random number, seeded by the name of its component."""

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
