"""What all rankings of experts hold to: an expert to which no token was sent goes first."""

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor

from search_spaces.expert_surgery import known
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock

ROUTED: frozenset[StatisticName] = frozenset({"expert_frequency"})
"""What every ranking needs to tell those experts."""


def measured(block: SubBlock, statistics: Statistics, name: StatisticName) -> Tensor:
    """Give a statistic of the experts of a sub-block, ``(experts, ...)``."""
    return statistics[name, known(block).holder]


def unrouted_last(block: SubBlock, importance: Tensor, statistics: Statistics) -> Tensor:
    """Give importances ``(experts,)`` in which unused experts have less than all others."""
    unused = measured(block, statistics, "expert_frequency").to(importance.device) <= 0
    if bool(unused.all()):  # of a text without tokens, say: nothing tells them apart
        return torch.zeros_like(importance)
    least = importance[~unused].min()
    return importance.masked_fill(unused, float(least - least.abs().clamp(min=1.0)))


class OneStatistic:
    """An order by one statistic of the experts, ``(experts,)``, which a subclass names."""

    ordered_by: ClassVar[StatisticName]

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """That statistic, and what tells unused experts."""
        return ROUTED | {self.ordered_by}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        """Give the statistic itself, unused experts last."""
        return unrouted_last(block, measured(block, statistics, self.ordered_by), statistics)
