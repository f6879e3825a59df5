"""What an expert adds, as loud as the router lets it."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class REAP:
    """An expert counts by what it adds to the output for the tokens that are sent to it.

    That is the mean over those tokens of the weight that the router gives it times the norm of
    what it gives: an expert that is seldom chosen and then decides counts as much as any.

    References:
        Lasby, Lazarevich, Sinnadurai, Lie, Ioannou & Thangarasa, 2025, "REAP the Experts: Why
        Pruning Prevails for One-Shot MoE Compression" (equation 9).
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_output"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        found = measured(block, statistics, "expert_output")
        return unrouted_last(block, found, statistics)
