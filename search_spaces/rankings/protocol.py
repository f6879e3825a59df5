"""What a ranking is: an importance for each unit of a sub-block, from declared statistics."""

from collections.abc import Mapping
from typing import Literal, Protocol

from torch import Tensor

from search_spaces.structure.sub_block import SubBlock

StatisticName = Literal["input_second_moment", "hidden_energy"]
"""``input_second_moment``: mean of each input's square over the tokens, ``(columns,)``, of each
projection. ``hidden_energy``: median over the tokens of the squared norm of the hidden states that
enter the layer, ``()``, under the empty path."""

Statistics = Mapping[tuple[StatisticName, str], Tensor]
"""Of one layer, by name and path of the linear layer."""


class Ranking(Protocol):
    """Scores the units of a sub-block by importance."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `importance` is asked."""
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
            Importance ``(units,)``, comparable inside the sub-block only.
        """
        ...
