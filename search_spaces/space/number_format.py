"""Number formats that matrices may be stored in, besides the dense model's: the one table."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from search_spaces.errors import PlanError
from search_spaces.suggestions import suggestion

if TYPE_CHECKING:  # settings name formats without NumPy
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

_Count = TypeVar("_Count", int, "NDArray[np.int_]")


@dataclass(frozen=True, kw_only=True)
class NumberFormat:
    """How the weights of a matrix are stored: in blocks of inputs that share what scales them.

    >>> Q4_K = FORMATS["Q4_K"]
    >>> Q4_K.bits, Q4_K.bytes_of(rows=2, columns=512), Q4_K.fits(576), Q4_K.held(576).name
    (4.5, 576, False, 'Q5_0')
    """

    name: str
    """As choices, plans and files give it."""
    block: int = 1
    """Neighbouring inputs of a row that share a scale; rows are stored in whole blocks."""
    block_bytes: int = 0
    """Of a block, scales and all; 0: the format stands for others, and has no bytes of its own."""
    weight_bits: int = 0
    """Of each weight, without its share of scales."""
    fallback: str = ""
    """The format in its place of a matrix whose rows are no whole blocks, as in llama.cpp."""
    matrix_bytes: int = 0
    """That a matrix has beside its blocks."""

    @classmethod
    def parse(cls, text: str) -> "NumberFormat":
        """Return the format of a name.

        Raises:
            PlanError: If there is none of this name; the nearest is named.
        """
        if text not in FORMATS:
            raise PlanError(
                f"a number format must be one of {', '.join(FORMATS)}, got `{text[:20]}`; "
                f"{suggestion(text, FORMATS, 'write one of these')}"
            )
        return FORMATS[text]

    def __str__(self) -> str:
        return self.name

    @property
    def bits(self) -> float:
        """Bits of each weight, its share of scales included."""
        return 8 * self.block_bytes / self.block

    @property
    def most(self) -> int:
        """The largest integer of a symmetric format; the lowest is its negative."""
        return (1 << (self.weight_bits - 1)) - 1

    def fits(self, columns: int) -> bool:
        """Return whether rows of so many inputs are whole blocks."""
        return columns % self.block == 0

    def held(self, columns: int) -> "NumberFormat":
        """Return the format of a matrix of so many inputs where this one is asked for.

        That is itself where it fits, else its fallback, else that of the dense model.
        """
        if self.fits(columns):
            return self
        return FORMATS[self.fallback].held(columns) if self.fallback else STORED

    def bytes_of(self, rows: _Count, columns: _Count) -> _Count:
        """Return the bytes of a matrix ``(rows, columns)`` whose rows are whole blocks."""
        return rows * (columns // self.block) * self.block_bytes + self.matrix_bytes


def _legacy(name: str, bits: int, block_bytes: int) -> NumberFormat:
    """Return one of GGUF's formats with blocks of 32."""
    return NumberFormat(name=name, block=32, block_bytes=block_bytes, weight_bits=bits)


def _k_quant(name: str, bits: int, block_bytes: int, fallback: str) -> NumberFormat:
    """Return one of GGUF's formats with blocks of 256, which are scaled in two steps."""
    return NumberFormat(
        name=name, block=256, block_bytes=block_bytes, weight_bits=bits, fallback=fallback
    )


def _integers(bits: int) -> NumberFormat:
    """Return symmetric integers in groups of 128 with 16 bits of scale.

    As `compressed-tensors` packs them, with a shape of two 64-bit numbers beside each matrix.
    """
    block_bytes = 128 * bits // 8 + 2
    return NumberFormat(
        name=f"int{bits}", block=128, block_bytes=block_bytes, weight_bits=bits, matrix_bytes=16
    )


STORED = NumberFormat(name="stored")
"""That of the dense model, whichever it is."""
SOURCE = NumberFormat(name="source")
"""That in which each matrix came from a quantised file."""
FORMATS: "Mapping[str, NumberFormat]" = {
    each.name: each
    for each in (
        NumberFormat(name="BF16", block_bytes=2, weight_bits=16),
        _legacy("Q8_0", 8, 34),
        _k_quant("Q6_K", 6, 210, "Q8_0"),
        _k_quant("Q5_K", 5, 176, "Q5_1"),
        _k_quant("Q4_K", 4, 144, "Q5_0"),
        # llama.cpp takes IQ4_NL for these two, which is as large
        _k_quant("Q3_K", 3, 110, "Q4_0"),
        _k_quant("Q2_K", 2, 84, "Q4_0"),
        _legacy("Q5_1", 5, 24),
        _legacy("Q5_0", 5, 22),
        _legacy("Q4_1", 4, 20),
        _legacy("Q4_0", 4, 18),
        _integers(8),
        _integers(4),
        SOURCE,
    )
}
"""By the names that choices and plans give them."""
CACHE_FORMATS: "Mapping[str, NumberFormat]" = {
    "F16": NumberFormat(name="F16", block_bytes=2, weight_bits=16),
    "Q8_0": FORMATS["Q8_0"],
    "Q4_0": FORMATS["Q4_0"],
}
"""Those that a runtime may keep keys and values in, the usual one first."""
INT8 = FORMATS["int8"]
