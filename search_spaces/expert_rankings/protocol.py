"""What a ranking of experts is: an order in which the experts of a mixture go."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class ExpertRanking(Protocol):
    """Says how much each expert of a mixture matters."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected before `importance` is asked."""
        ...

    def importance(
        self, block: SubBlock, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score the experts of one mixture.

        Args:
            block: The mixture; its `experts` are not None.
            weights: The stacks and the router's rows by their paths inside the layer, as stored,
                in float32.
            statistics: Of its layer, as `statistics` asks.

        Returns:
            Importance, ``(experts,)``, finite; the least important goes first. An expert to which
            no token was sent has the least of all.
        """
        ...
