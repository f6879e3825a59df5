"""No criterion at all: the baseline that every importance must beat."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import Component


class RandomOrder:
    """A unit counts by a random number, seeded by the name of its component: always the same."""

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
