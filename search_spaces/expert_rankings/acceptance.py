"""What the dense model would not accept of the model without an expert."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class Acceptance:
    """An expert counts by the acceptance that is lost where it goes alone.

    Were the model without it to draft tokens for the dense one, speculative decoding would accept
    the share ``E[Σ_v min(p(v), q(v))]`` of them. What is missing to 1 is the expert's importance.

    References:
        Liu, Tang, Sun, Shen & Yuan, 2026, "EvoESAP: Non-Uniform Expert Pruning for Sparse MoE"
        (the expected speculative acceptance proxy), which scores whole models with it.
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_acceptance"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        found = measured(block, statistics, "expert_acceptance")
        return unrouted_last(block, found, statistics)
