"""Where the bits of a weight's integer lie in the bytes of its block, format by format."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from search_spaces.space.number_format import NumberFormat


@dataclass(frozen=True, kw_only=True)
class BitPlane:
    """Some bits of every integer of a block, packed into bytes that lie together.

    A byte holds bits of ``8 / bits`` weights, which are `lanes` columns apart: those of ``lanes``
    neighbours lie in as many bytes, and the next ``lanes`` neighbours in the bits above them.
    """

    offset: int
    """First of its bytes in the block."""
    bits: int
    """Of each integer."""
    lanes: int
    lowest: int = 0
    """Which bit of an integer is its first one."""

    def packed(self, integers: Tensor) -> Tensor:
        """Pack its bits of integers ``(..., columns of a block)`` into bytes ``(..., bytes)``.

        >>> plane = BitPlane(offset=0, bits=4, lanes=2)
        >>> plane.packed(torch.tensor([1, 2, 3, 4])).tolist()  # 0x31, 0x42
        [49, 66]
        """
        shifts = torch.arange(0, 8, self.bits)[:, None]
        bits = (integers >> self.lowest) & ((1 << self.bits) - 1)
        apart = bits.reshape(*bits.shape[:-1], -1, len(shifts), self.lanes)
        return (apart << shifts).sum(dim=-2).flatten(-2).to(torch.uint8)


@dataclass(frozen=True, kw_only=True)
class BlockLayout:
    """How the integers of a format's block are stored."""

    planes: tuple[BitPlane, ...]
    signed: bool = False
    """Whether the middle of the integers is stored as 0, in two's complement."""

    @property
    def highest(self) -> int:
        """The largest integer; the lowest is 0."""
        most = (1 << sum(plane.bits for plane in self.planes)) - 1
        return most - self.signed  # as many below the middle as above it

    def with_integers(self, data: Tensor, integers: Tensor, number_format: NumberFormat) -> Tensor:
        """Return bytes in which other integers stand; see `Codec`."""
        blocks = data.reshape(*data.shape[:-1], -1, number_format.block_bytes).clone()
        stored = integers.long().reshape(*integers.shape[:-1], -1, number_format.block)
        if self.signed:
            stored = stored - self.highest // 2
        for plane in self.planes:
            packed = plane.packed(stored)
            blocks[..., plane.offset : plane.offset + packed.shape[-1]] = packed
        return blocks.flatten(-2)


LAYOUTS: Mapping[str, BlockLayout] = {
    # of `ggml-common.h`, read as the `dequantize_row_*` of ggml-quants.c do
    "Q8_0": BlockLayout(planes=(BitPlane(offset=2, bits=8, lanes=32),), signed=True),
    "Q6_K": BlockLayout(
        planes=(
            BitPlane(offset=0, bits=4, lanes=64),
            BitPlane(offset=128, bits=2, lanes=32, lowest=4),
        )
    ),
    "Q5_K": BlockLayout(
        planes=(
            BitPlane(offset=48, bits=4, lanes=32),
            BitPlane(offset=16, bits=1, lanes=32, lowest=4),
        )
    ),
    "Q4_K": BlockLayout(planes=(BitPlane(offset=16, bits=4, lanes=32),)),
    "Q3_K": BlockLayout(
        planes=(
            BitPlane(offset=32, bits=2, lanes=32),
            BitPlane(offset=0, bits=1, lanes=32, lowest=2),
        )
    ),
    "Q2_K": BlockLayout(planes=(BitPlane(offset=16, bits=2, lanes=32),)),
    "Q5_1": BlockLayout(
        planes=(
            BitPlane(offset=8, bits=4, lanes=16),
            BitPlane(offset=4, bits=1, lanes=1, lowest=4),
        )
    ),
    "Q5_0": BlockLayout(
        planes=(
            BitPlane(offset=6, bits=4, lanes=16),
            BitPlane(offset=2, bits=1, lanes=1, lowest=4),
        )
    ),
    "Q4_1": BlockLayout(planes=(BitPlane(offset=4, bits=4, lanes=16),)),
    "Q4_0": BlockLayout(planes=(BitPlane(offset=2, bits=4, lanes=16),)),
    # of compressed-tensors' `pack_to_int32`: a group's integers, and then its scale
    "int8": BlockLayout(planes=(BitPlane(offset=0, bits=8, lanes=1),)),
    "int4": BlockLayout(planes=(BitPlane(offset=0, bits=4, lanes=1),)),
}
"""Of all formats whose weights are integers with scales."""
