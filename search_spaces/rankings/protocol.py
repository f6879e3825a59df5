"""What a ranking is: an importance for each unit of a sub-block, from declared statistics."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from search_spaces.statistics import StatisticName, Statistics
from search_spaces.structure.sub_block import SubBlock


class Ranking(Protocol):
    """Scores the units of a sub-block by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `importance` is asked."""
        ...

    @property
    def comparable(self) -> bool:
        """Whether importances can be compared across sub-blocks, or inside of one only."""
        ...

    def importance(
        self, block: SubBlock, weights: Mapping[str, Tensor], statistics: Statistics
    ) -> Tensor:
        """Score units; the lowest die first.

        Args:
            block: The sub-block.
            weights: Matrix ``(rows, columns)`` of each projection, by path.
            statistics: Of the sub-block's layer.

        Returns:
            Importance ``(units,)``.
        """
        ...


class DepthRanking(Protocol):
    """Scores whole layers, and attentions and MLPs, by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected before `importance` is asked."""
        ...

    def importance(self, statistics: Statistics, part: str) -> float:
        """Score a layer or one of its sub-blocks; the lowest go first.

        Args:
            statistics: Of the layer.
            part: ``attention`` or ``mlp``; empty: the whole layer.

        Returns:
            Importance, comparable across layers and parts, not negative.
        """
        ...
