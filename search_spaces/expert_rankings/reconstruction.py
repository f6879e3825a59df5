"""What the output of a mixture loses as experts go one after another."""

from collections.abc import Mapping

from torch import Tensor

from search_spaces.expert_rankings.routing import ROUTED, measured, unrouted_last
from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class Reconstruction:
    """An expert counts by the squared error of the mixture's output once it has gone in its turn.

    The turns are those of `search_spaces.expert_rankings.chain`, the best ones where the experts
    are few.

    References:
        Lu, Liu, Xu, Zhou, Huang, Zhang, Yan & Li, 2024, "Not All Experts are Equal: Efficient
        Expert Pruning and Skipping for Mixture-of-Experts Large Language Models" (the loss of a
        layer), whose best subset of one size is here the best chain of subsets of all sizes.
    """

    statistics: frozenset[StatisticName] = ROUTED | {"expert_reconstruction"}

    def importance(
        self,
        block: SubBlock,
        weights: Mapping[str, Tensor],  # noqa: ARG002
        statistics: Statistics,
    ) -> Tensor:
        found = measured(block, statistics, "expert_reconstruction")
        return unrouted_last(block, found, statistics)
