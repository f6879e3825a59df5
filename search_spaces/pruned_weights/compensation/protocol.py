"""What a compensation is: new weights of the kept units, which take over from the pruned ones."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from search_spaces.statistics import MatrixStatistics, StatisticName


@dataclass(frozen=True)
class CompensatedWeights:
    """The output projection of a component that keeps the first of its columns."""

    weight: Tensor
    """``(rows, kept)`` in float32"""
    bias: Tensor | None = None
    """Added to the output besides any bias that the dense model has, ``(rows,)``."""
    fallback: str = ""
    """Why the weights are the dense ones where the method could not be used; empty: it was."""
    notice: str = ""
    """What to warn of where the method was used; empty: nothing."""


class Compensation(Protocol):
    """Compensates in the output projection for the pruned units of a component."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected of every projection before `compensate` is called."""
        ...

    @property
    def adds_bias(self) -> bool:
        """Whether compensated weights come with a bias."""
        ...

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        """Compensate one output projection at several widths.

        Args:
            weight: Of the dense model, ``(rows, columns)`` in float32, the columns sorted so that
                the first ones are pruned last.
            kept: For each width the number of columns kept, ascending, none of them 0.
            statistics: Of this matrix, in the same order.

        Yields:
            For each width its compensated weights.
        """
        ...
