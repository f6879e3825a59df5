"""Which share of a matrix's weights stays: a fraction of zeros, or N of every M in a row."""

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, overload

from search_spaces.errors import PlanError, SettingsError
from search_spaces.space.choices import Choices

if TYPE_CHECKING:  # settings read patterns without NumPy
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class SparsityPattern:
    """How sparse a matrix ``(rows, columns)`` is, whichever weights are zero.

    Args:
        percent: Zeros in each hundred weights, for a pattern without groups.
        keep: With groups: weights that stay in each.
        group: Neighbouring columns of a row in a group; 0: no groups.
    """

    percent: int = 0
    keep: int = 0
    group: int = 0

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``50%`` or ``2:4``.

        Raises:
            PlanError: Where it is neither.
        """
        if found := re.fullmatch(r"([0-9]{1,2})%", text):
            return cls(percent=int(found[1]))
        found = re.fullmatch(r"([0-9]{1,2}):([0-9]{1,2})", text)
        if not found or not 0 < int(found[1]) < int(found[2]):
            raise PlanError(
                f"a sparsity pattern must be zeros in a hundred such as `50%`, or so many kept of "
                f"a group such as `2:4`, got `{text[:20]}`; write one of these"
            )
        return cls(keep=int(found[1]), group=int(found[2]))

    def __str__(self) -> str:
        return f"{self.keep}:{self.group}" if self.group else f"{self.percent}%"

    @property
    def is_dense(self) -> bool:
        """Whether nothing is zero."""
        return not self.group and not self.percent

    @property
    def density(self) -> float:
        """Share of the weights that stays."""
        return self.keep / self.group if self.group else 1.0 - self.percent / 100

    @overload
    def zeros_each_row(self, columns: int) -> int: ...

    @overload
    def zeros_each_row(self, columns: "NDArray[np.int_]") -> "NDArray[np.int_]": ...

    def zeros_each_row(self, columns: "int | NDArray[np.int_]") -> "int | NDArray[np.int_]":
        """Give the zeros in a row; where rows share them out unevenly, on average."""
        if self.group:
            return columns // self.group * (self.group - self.keep)
        return columns * self.percent // 100

    def zeros(self, rows: int, columns: int) -> int:
        """Give the zeros in a matrix: the same for every method."""
        return rows * self.zeros_each_row(columns)

    def check_fits(self, columns: int, name: str) -> None:
        """Refuse a matrix whose rows cannot be parted into groups.

        Raises:
            SettingsError: Where the number of columns is no multiple of the group.
        """
        if self.group and columns % self.group:
            raise SettingsError(
                f"{self} needs rows of a multiple of {self.group} inputs, and `{name}` has "
                f"{columns}; choose another pattern or other levels"
            )


DENSE = SparsityPattern()
"""Nothing is zero."""
SPARSEST = 90
"""Per cent of zeros beyond which no level goes."""
STEP = 10
"""Per cent between two levels by default."""


def sparsity_patterns(choices: Choices, step: int = STEP) -> tuple[SparsityPattern, ...]:
    """Give the patterns to choose from, the dense one first and then by falling density.

    Args:
        choices: What may be cut.
        step: Per cent of zeros between two fractions.
    """
    fractions = range(step, SPARSEST + 1, step) if choices.fractions else ()
    found = [*(SparsityPattern(percent=percent) for percent in fractions)]
    found += [SparsityPattern.parse(group) for group in choices.groups]
    # groups before the fraction of the same density: they leave less choice, and cost the same
    return (DENSE, *sorted(found, key=lambda p: (-p.density, p.group == 0, p.group)))
