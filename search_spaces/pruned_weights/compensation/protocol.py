"""What a compensation is: a change of what stays that makes up for what goes."""

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
    """To be added to the output beside any bias that the dense model has, ``(rows,)``."""
    fallback: str = ""
    """Why the weights are the dense ones where the method could not be used; empty: it was."""
    notice: str = ""
    """What should be known of weights that the method did give; empty: nothing."""


class Compensation(Protocol):
    """Repairs the output projection of a component that loses units."""

    @property
    def statistics(self) -> frozenset[StatisticName]:
        """What must be collected for every projection before `compensate` is asked."""
        ...

    @property
    def adds_bias(self) -> bool:
        """Whether repairs come with a bias."""
        ...

    def compensate(
        self, weight: Tensor, kept: Sequence[int], statistics: MatrixStatistics
    ) -> Iterator[CompensatedWeights]:
        """Repair one output projection at several widths.

        Args:
            weight: Of the dense model, ``(rows, columns)`` in float32, columns sorted so that the
                first ones stay longest.
            kept: For each width the number of columns that stay, ascending, none of them 0.
            statistics: Of this matrix, in the same order.

        Yields:
            For each width its repair.
        """
        ...
