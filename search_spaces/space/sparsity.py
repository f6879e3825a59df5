"""Sparsity patterns: a fraction of zeros in a matrix, or N weights kept of every M in a row."""

import re
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Self, overload

from search_spaces.errors import PlanError, SettingsError
from search_spaces.space.choices import Choices

if TYPE_CHECKING:  # settings parse patterns without NumPy
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from search_spaces.structure.components import Component


@dataclass(frozen=True)
class SparsityPattern:
    """How sparse a matrix ``(rows, columns)`` is, whichever weights are zero.

    >>> SparsityPattern.parse("2:4").zeros(rows=3, columns=8), SparsityPattern(percent=25).density
    (12, 0.75)

    Args:
        percent: Zeros in each hundred weights, for a pattern without groups.
        keep: Weights kept in each group, for a pattern with groups.
        group: Neighbouring columns of a row in a group; 0: no groups.
    """

    percent: int = 0
    keep: int = 0
    group: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``50%`` or ``2:4``.

        Raises:
            PlanError: If it is neither.
        """
        if percentage := re.fullmatch(r"([0-9]{1,2})%", text):
            return cls(percent=int(percentage[1]))
        ratio = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", text)
        if not ratio or not 0 < int(ratio[1]) < int(ratio[2]):
            raise PlanError(
                f"a sparsity pattern must be zeros in a hundred such as `50%`, or so many kept of "
                f"a group such as `2:4`, got `{text[:20]}`; write one of these"
            )
        return cls(keep=int(ratio[1]), group=int(ratio[2]))

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}" if self.group else f"{self.percent}%"

    @property
    def is_dense(self) -> bool:
        """Whether nothing is zero."""
        return not self.group and not self.percent

    @property
    def density(self) -> float:
        """Share of the weights that is kept."""
        return self.keep / self.group if self.group else 1.0 - self.percent / 100

    @overload
    def zeros_each_row(self, columns: int) -> int: ...

    @overload
    def zeros_each_row(self, columns: "NDArray[np.int_]") -> "NDArray[np.int_]": ...

    def zeros_each_row(self, columns: "int | NDArray[np.int_]") -> "int | NDArray[np.int_]":
        """Return the zeros in a row; the mean where rows have different numbers."""
        if self.group:
            return columns // self.group * (self.group - self.keep)
        return columns * self.percent // 100

    def zeros(self, rows: int, columns: int) -> int:
        """Return the zeros in a matrix, which are the same for every method."""
        return rows * self.zeros_each_row(columns)

    def check_fits(self, columns: int, name: str) -> None:
        """Refuse a matrix whose rows cannot be divided into groups.

        Raises:
            SettingsError: If the number of columns is no multiple of the group.
        """
        if self.group and columns % self.group:
            raise SettingsError(
                f"{self} needs rows of a multiple of {self.group} inputs, and `{name}` has "
                f"{columns}; choose another pattern or other levels"
            )


DENSE = SparsityPattern()
"""Nothing is zero."""
SPARSEST = 90
"""Largest percentage of zeros among the levels."""
STEP = 10
"""Percentage points between two levels by default."""


@cache
def sparsity_patterns(choices: Choices, step: int = STEP) -> tuple[SparsityPattern, ...]:
    """Return the patterns to choose from, the dense one first and then by falling density.

    Args:
        choices: What may be pruned.
        step: Percentage points of zeros between two fractions.
    """
    fractions = range(step, SPARSEST + 1, step) if choices.fractions else ()
    patterns = [*(SparsityPattern(percent=percent) for percent in fractions)]
    patterns += [SparsityPattern.parse(group) for group in choices.groups]
    # groups before the fraction of the same density: they constrain more, and cost the same
    return (DENSE, *sorted(patterns, key=lambda p: (-p.density, p.group == 0, p.group)))


def check_patterns(
    component: "Component",
    layer: "nn.Module",
    units: "Sequence[int]",
    channels: "Sequence[int]",
    patterns: "Sequence[SparsityPattern]",
) -> None:
    """Refuse patterns with groups that do not divide the matrices of a component.

    Args:
        component: The component.
        layer: The dense layer that holds it.
        units: Numbers of units at its levels, none of them 0.
        channels: Numbers of channels of each member at the levels; empty: all.
        patterns: To choose from.

    Raises:
        SettingsError: If one does not fit; names the matrix and its width.
    """
    for weight in component.unit_weights(layer):
        if weight.role != "matrix":
            continue
        columns, whole, counts = weight.tensor.shape[-1], component.unit_count, units
        if weight.is_stacked:
            whole, counts = component.channel_count, channels
        narrow = [columns * count // whole for count in counts if weight.side == "columns"]
        for width in (*narrow, columns):
            for pattern in patterns:
                pattern.check_fits(width, f"layers.{component.layer}.{weight.path}")
