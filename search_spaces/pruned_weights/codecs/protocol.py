"""What a codec is: the bytes that one number format makes of a matrix, and the way back."""

from typing import Protocol

from torch import Tensor


class Codec(Protocol):
    """Encodes and decodes matrices in one number format.

    A row of a matrix is a sequence of blocks, each of which is stored by itself: the bytes of
    columns that fill whole blocks are a slice of the bytes of the row.
    """

    @property
    def highest(self) -> int:
        """The integers of weights run from 0 to this; 0: weights are no integers with scales."""
        ...

    def check_installed(self, *, weighted: bool) -> None:
        """Refuse to go on without what `encode` takes.

        Args:
            weighted: Whether it is to be told what errors count.

        Raises:
            MissingExtraError: If a package is missing.
        """
        ...

    def encode(self, weight: Tensor, importance: Tensor | None = None) -> Tensor:
        """Return the bytes of a matrix, with scales and integers as the format's maker picks them.

        Args:
            weight: ``(rows, columns)`` in float32 on the CPU, finite; the format's block divides
                the columns.
            importance: What the square of an error counts in each column, ``(columns,)``, finite
                and positive; None: that it counts the same in all.

        Returns:
            ``(rows, bytes a row)`` in uint8.

        Raises:
            MissingExtraError: If it takes a package that is not installed.
        """
        ...

    def decode(self, data: Tensor) -> Tensor:
        """Return the numbers ``(rows, columns)`` in float32 that bytes stand for."""
        ...

    def with_integers(self, data: Tensor, integers: Tensor) -> Tensor:
        """Return bytes with the same scales and other integers.

        Args:
            data: ``(rows, bytes a row)`` in uint8.
            integers: ``(rows, columns)``, from 0 to `highest`.
        """
        ...
