"""How often an expert is chosen."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class Frequency:
    """An expert counts by the share of the tokens that are sent to it.

    References:
        Muzio, Sun & He, 2024, "SEER-MoE: Sparse Expert Efficiency through Regularization for
        Mixture-of-Experts" (the actual count).
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_frequency"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        found = measured(block, statistics, "expert_frequency")
        return unrouted_last(block, found, statistics)
