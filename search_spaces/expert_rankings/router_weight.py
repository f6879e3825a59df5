"""How much weight the router gives an expert."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class RouterWeight:
    """An expert counts by the sum of the weights that the router gives it.

    A weight is 0 where another expert is chosen. The sum is taken over the tokens, here as a mean
    over all of them, which orders the same.

    References:
        Muzio, Sun & He, 2024, "SEER-MoE: Sparse Expert Efficiency through Regularization for
        Mixture-of-Experts" (the soft count).
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_weight"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        found = measured(block, statistics, "expert_weight")
        return unrouted_last(block, found, statistics)
