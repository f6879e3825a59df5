"""Number formats that the matrices of a component may be stored in, besides the dense model's."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from search_spaces.errors import PlanError

if TYPE_CHECKING:  # settings name formats without NumPy
    import numpy as np
    from numpy.typing import NDArray

_Count = TypeVar("_Count", int, "NDArray[np.int_]")


@dataclass(frozen=True)
class NumberFormat:
    """Integers of so many bits, and a scale for each row of a matrix, in the dense model's dtype.

    >>> INT8.bytes_of(values=12, rows=3, itemsize=2), STORED.bytes_of(12, 3, 2)
    (18, 24)

    Args:
        bits: Of each weight; 0: as the dense model stores it.
    """

    bits: int = 0

    @classmethod
    def parse(cls, text: str) -> "NumberFormat":
        """Parse the name of a format.

        Raises:
            PlanError: If there is none of this name.
        """
        if text not in FORMATS:
            raise PlanError(
                f"a number format must be one of {', '.join(FORMATS)}, got `{text[:20]}`; write "
                "one of these"
            )
        return FORMATS[text]

    def __str__(self) -> str:
        return f"int{self.bits}" if self.bits else "stored"

    @property
    def most(self) -> int:
        """The largest integer; the lowest is its negative."""
        return (1 << (self.bits - 1)) - 1

    def bytes_of(self, values: _Count, rows: _Count, itemsize: int) -> _Count:
        """Return the bytes of the values of a matrix, its scales included.

        Args:
            values: Weights that are stored.
            rows: Outputs of the matrix.
            itemsize: Bytes of a number of the dense model.
        """
        if not self.bits:
            return values * itemsize
        return values * self.bits // 8 + rows * (values > 0) * itemsize


STORED = NumberFormat()
"""That of the dense model."""
INT8 = NumberFormat(bits=8)
FORMATS = {str(INT8): INT8}
"""By the names that choices and plans give them."""
