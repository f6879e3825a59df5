"""No criterion at all: what every ranking must beat."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.components import SubBlock


class RandomOrder:
    """Units count by lot, drawn from the name of their sub-block: always the same."""

    statistics: frozenset[StatisticName] = frozenset()
    comparable = False

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],
        statistics: Statistics,  # noqa: ARG002
    ) -> Tensor:
        seed = hashlib.sha256(block.name.encode()).digest()[:8]
        generator = torch.Generator().manual_seed(int.from_bytes(seed) >> 1)
        drawn = torch.rand(block.unit_count, generator=generator)
        return drawn.to(weights[block.projections[-1].path].device)
