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
    """The format in its place of a matrix whose rows are no whole blocks, as in llama.cpp; and of
    one that only files have, of a matrix that is made anew."""
    matrix_bytes: int = 0
    """That a matrix has beside its blocks."""
    keeps_zeros: bool = True
    """Whether zero is among its numbers whatever else is in a block, so that zeros stay zeros."""

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

    @property
    def anew(self) -> "NumberFormat":
        """The format of what is made anew of a matrix that came in this one."""
        return self if self.name in FORMATS else FORMATS.get(self.fallback, STORED)

    def bytes_of(self, rows: _Count, columns: _Count) -> _Count:
        """Return the bytes of a matrix ``(rows, columns)`` whose rows are whole blocks."""
        return rows * (columns // self.block) * self.block_bytes + self.matrix_bytes


_OFFSET = ("Q5_K", "Q4_K", "Q2_K", "Q5_1", "Q4_1")
"""GGUF's formats whose numbers begin at the least one of a block, and not at its middle."""


def _legacy(name: str, bits: int, block_bytes: int) -> NumberFormat:
    """Return one of GGUF's formats with blocks of 32."""
    return NumberFormat(
        name=name,
        block=32,
        block_bytes=block_bytes,
        weight_bits=bits,
        keeps_zeros=name not in _OFFSET,
    )


def _k_quant(name: str, bits: int, block_bytes: int, fallback: str) -> NumberFormat:
    """Return one of GGUF's formats with blocks of 256, which are scaled in two steps."""
    return NumberFormat(
        name=name,
        block=256,
        block_bytes=block_bytes,
        weight_bits=bits,
        fallback=fallback,
        keeps_zeros=name not in _OFFSET,
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
SOURCE = NumberFormat(name="source", keeps_zeros=False)
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
INTEGERS = (FORMATS["int8"], FORMATS["int4"])
"""Those of compressed-tensors; all others are of GGUF."""
CACHE_FORMATS: "Mapping[str, NumberFormat]" = {
    "F16": NumberFormat(name="F16", block_bytes=2, weight_bits=16),
    "Q8_0": FORMATS["Q8_0"],
    "Q4_0": FORMATS["Q4_0"],
}
"""Those that a runtime may keep keys and values in, the usual one first."""
_ONLY_IN_FILES: "Mapping[str, NumberFormat]" = {
    each.name: each
    for each in (
        _k_quant("IQ4_XS", 4, 136, "Q4_K"),
        _k_quant("IQ3_S", 3, 110, "Q3_K"),
        _k_quant("IQ3_XXS", 3, 98, "Q3_K"),
        _k_quant("IQ2_S", 2, 82, "Q2_K"),
        _k_quant("IQ2_XS", 2, 74, "Q2_K"),
        _k_quant("IQ2_XXS", 2, 66, "Q2_K"),
        _k_quant("IQ1_M", 1, 56, "Q2_K"),
        _k_quant("IQ1_S", 1, 50, "Q2_K"),
        _k_quant("TQ2_0", 2, 66, "Q2_K"),
        _k_quant("TQ1_0", 1, 54, "Q2_K"),
        NumberFormat(name="IQ4_NL", block=32, block_bytes=18, weight_bits=4, fallback="Q4_0"),
        NumberFormat(name="MXFP4", block=32, block_bytes=17, weight_bits=4, fallback="Q4_0"),
    )
}


def file_format(name: str) -> NumberFormat:
    """Return the format of a tensor in a GGUF file by the name of its type.

    >>> file_format("Q4_1").bits, file_format("IQ4_XS").anew.name, file_format("F16").name
    (5.0, 'Q4_K', 'stored')
    """
    return FORMATS.get(name) or _ONLY_IN_FILES.get(name, STORED)


def parse_cache_format(name: str) -> NumberFormat:
    """Return the format of keys and values by its name.

    Raises:
        PlanError: If there is none of this name.
    """
    if name not in CACHE_FORMATS:
        raise PlanError(
            f"keys and values must be kept in one of {', '.join(CACHE_FORMATS)}, got "
            f"`{name[:20]}`; write one of these"
        )
    return CACHE_FORMATS[name]
