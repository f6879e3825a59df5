"""Types of numbers that a GGUF file may hold; read by the command line without torch."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

from gguf import LlamaFileType

from search_spaces.errors import SettingsError, TargetError, quoted
from search_spaces.space.number_format import file_format

GgufType = Literal[
    "F32",
    "F16",
    "BF16",
    "Q8_0",
    "Q6_K",
    "Q5_K_M",
    "Q5_K_S",
    "Q5_1",
    "Q5_0",
    "Q4_K_M",
    "Q4_K_S",
    "Q4_1",
    "Q4_0",
    "IQ4_NL",
    "IQ4_XS",
    "Q3_K_L",
    "Q3_K_M",
    "Q3_K_S",
    "Q2_K",
]
"""What ``--gguf_type`` offers, by falling bits: all that need no statistics of activations."""
WRITTEN_HERE: tuple[GgufType, ...] = ("F32", "F16", "BF16", "Q8_0")
"""All others are made by llama.cpp's quantiser."""
_MIX = re.compile("_[SML]$")
"""Of the name of a file some of whose matrices are in other types."""


def as_type(name: str) -> GgufType:
    """Return a type by its name.

    Raises:
        SettingsError: If there is none of this name.
    """
    for known in get_args(GgufType):
        if name == known:
            return known  # type: ignore[no-any-return]
    raise SettingsError(
        f"`--gguf_type` must be one of {', '.join(get_args(GgufType))}, got {quoted(name, 20)}"
    )


def file_type_of(name: str) -> LlamaFileType:
    """Return the number in ``llama.h`` of a type of files, or of those with most tensors in it.

    >>> file_type_of("Q4_K_M").name, file_type_of("Q4_K").name, file_type_of("F32").name
    ('MOSTLY_Q4_K_M', 'MOSTLY_Q4_K_S', 'ALL_F32')
    """
    known = LlamaFileType.__members__
    names = (f"ALL_{name}", f"MOSTLY_{name}", f"MOSTLY_{name}_S")
    return next((known[each] for each in names if each in known), LlamaFileType.GUESSED)


def row_block(name: GgufType) -> int:
    """Return what must divide the rows of a matrix for it to be stored so.

    >>> row_block("Q8_0"), row_block("Q4_K_M"), row_block("F16")
    (32, 256, 1)
    """
    return file_format(_MIX.sub("", name)).block


def check_rows(name: GgufType, row_lengths: Iterable[int]) -> None:
    """Refuse rows for which llama.cpp's quantiser knows no other type.

    Args:
        name: A type that it is to make.
        row_lengths: Of the matrices.

    Raises:
        TargetError: If there are such.
    """
    has_fallback = row_block(name) == 256
    odd = [length for length in row_lengths if length % 32]
    if odd and not has_fallback:
        raise TargetError(
            f"32 must divide the rows of all matrices in {name}, and {odd[0]} is not divided; set "
            "`--gguf_type` to Q8_0 or Q4_K_M, or search with `--mlp_step 32`"
        )
